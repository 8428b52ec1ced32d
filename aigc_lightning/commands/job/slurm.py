"""`aigc job slurm`: a script for sbatch."""

import re

from aigc_lightning.commands.job.options import job_of, job_parser, parse_job, write_script
from aigc_lightning.commands.job.scripts import slurm_script
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

_SHORTEST = 5  # minutes: the warning comes two minutes before the end, or up to a minute earlier


def main(argv: list[str]) -> int:
    """Write a script that trains on several nodes under Slurm."""
    parser = job_parser(
        "slurm",
        "aigc job slurm --config dcgan_fashion_mnist --nodes 2 --gpus 4 --time 24:00:00 --out job.sh",
        "aigc job slurm --config own.yaml --gpus 0 --processes 8 --time 2-00:00:00 --trainer.max_steps 100000",
    )
    parser.add_argument("--time", required=True, help="limit of the job, such as 24:00:00 or 2-00:00:00")
    options, rest = parse_job(parser, argv)
    if _minutes(options.time) < _SHORTEST:
        raise UserError(
            f"--time {options.time} is less than {_SHORTEST} minutes, and the last three are for saving.",
            "Give more time.",
        )
    write_script(slurm_script(job_of(options, rest), options.time), options.out)
    if options.out is not None:
        echo(f"Next: {command('sbatch', options.out)}")
    return 0


def _minutes(time: str) -> float:
    """Return the minutes of a time in Slurm's notation: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if found is None:
        raise UserError(f"--time {time} is no time.", "Write hours:minutes:seconds, such as 24:00:00, or 2-00:00:00.")
    days, *parts = (int(part) if part is not None else None for part in found.groups())
    first, second, third = parts
    assert first is not None
    if days is not None:
        return days * 1440 + first * 60 + (second or 0) + (third or 0) / 60
    if third is not None:
        return first * 60 + (second or 0) + third / 60
    return first + (second or 0) / 60
