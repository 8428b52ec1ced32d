"""`aigc job`: scripts that start a run on several nodes."""

import argparse
import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import datetime
from io import StringIO
from pathlib import Path

from aigc_lightning.commands.job.scripts import Job, slurm_script, torchrun_script
from aigc_lightning.config.request import Request, read_request, value_of
from aigc_lightning.core.io.atomic import no_follow
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE, HIDDEN, is_secret_name, redacted
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.shell import command

_SHORTEST = 5  # minutes: the warning comes two minutes before the end, or up to a minute earlier


def job(argv: list[str]) -> int:
    """Write the script of a job on several nodes: `aigc job slurm` or `aigc job torchrun`."""
    if not argv or argv[0] in ("-h", "--help"):
        echo(str(job.__doc__), "", *_USAGE.split("\n"))
        return 0
    if argv[0] not in _LAUNCHERS:
        raise UserError(f"There is no `aigc job {argv[0]}`.", did_you_mean(argv[0], _LAUNCHERS))
    parser = _parser(argv[0])
    options, rest = _parsed(parser, argv[1:])
    text = _slurm(options, rest) if argv[0] == "slurm" else _torchrun(options, rest)
    if HIDDEN in text:
        echo(
            f"It leaves out the secrets of addresses: export {ADDRESSES_VARIABLE}=ADDRESS where it starts.", error=True
        )
    if options.out is None:
        sys.stdout.write(text)
        return 0
    path = Path(options.out)
    if os.path.lexists(path):
        raise UserError(f"{path} exists already.", "Choose another name with --out, or remove it.")
    with open(path, "x", encoding="utf-8", opener=no_follow) as file:
        file.write(text)
    echo(f"Wrote {path}.")
    if argv[0] == "slurm":
        echo(f"Next: {command('sbatch', path)}")
    else:
        echo("Next, one on each node:", *(f"  {command('bash', path, node)}" for node in range(options.nodes)))
    return 0


_LAUNCHERS = ("slurm", "torchrun")
_USAGE = """Usage: aigc job slurm --config C --nodes 2 --gpus 4 --time 24:00:00 [--out job.sh] [OPTIONS OF aigc fit]
       aigc job torchrun --config C --nodes 2 --gpus 4 --head NODE [--out job.sh] [OPTIONS OF aigc fit]

`aigc job slurm --help` and `aigc job torchrun --help` say more; docs/cluster.md has a walk-through."""


def _parser(launcher: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        f"aigc job {launcher}",
        description=f"Write a script that trains on several nodes under {launcher}.",
        epilog="All other options are those of `aigc fit`, such as --config C or --data.batch_size 32.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of each, one process each; 0 for none (default: 1)")
    parser.add_argument("--processes", type=int, help="processes on each machine, without GPUs (default: 1)")
    parser.add_argument("--cpus", type=int, default=4, help="processor cores for each process (default: 4)")
    parser.add_argument("--out", metavar="FILE", help="where to write the script (default: print it)")
    if launcher == "slurm":
        parser.add_argument("--time", required=True, help="limit of the job, such as 24:00:00 or 2-00:00:00")
    else:
        parser.add_argument("--head", help="name or address of the first node; needed for several")
        parser.add_argument("--port", type=int, default=29400, help="at which the nodes meet there (default: 29400)")
        parser.add_argument("--max-restarts", type=int, default=3, help="starts after a failure (default: 3)")
    return parser


def _parsed(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    def refuse(message: str) -> None:
        raise UserError(f"{parser.prog}: {message}.", f"See: {parser.prog} --help")

    parser.error = refuse  # type: ignore[method-assign,assignment]
    try:
        options, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{parser.prog}: {error}", f"See: {parser.prog} --help") from error
    for name, least in {"nodes": 1, "gpus": 0, "processes": 1, "cpus": 1}.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}.", f"Give at least {least}.")
    if options.gpus and options.processes not in (None, options.gpus):
        raise UserError(
            f"--processes {options.processes} does not go with --gpus {options.gpus}: each GPU has one process.",
            "Leave --processes out, or give --gpus 0.",
        )
    return options, rest


def _job(options: argparse.Namespace, rest: list[str]) -> Job:
    """Return the job, with the options that it settles itself taken out of those of `aigc fit`."""
    processes = options.gpus or options.processes or 1
    settled = {"trainer.num_nodes": str(options.nodes), "trainer.devices": str(processes)}
    settled["trainer.accelerator"] = "gpu" if options.gpus else "cpu"
    for name, value in settled.items():
        given = value_of(rest, f"--{name}")
        if given not in (None, value):
            raise UserError(f"--{name} {given} disagrees with the job, which sets {value}.", f"Leave --{name} out.")
    if (resumed := value_of(rest, "--resume")) is not None or "--resume" in rest:
        target = resumed if resumed and not resumed.startswith("-") else "RUN_FOLDER"
        raise UserError(
            "The job resumes by itself.", f"Leave --resume out. To go on with a run, write {command('--run', target)}."
        )
    run = value_of(rest, "--run")
    name = re.sub(r"[^\w.-]", "_", _check_options(rest).name)
    options_of_fit = _without_secrets(_without(rest, "--run"))
    return Job(name, options_of_fit, sys.executable, options.nodes, processes, options.gpus, options.cpus, run)


def _without_secrets(given: list[str]) -> list[str]:
    """Return options for a file that others may read.

    Raises:
        UserError: one of them is a secret itself.
    """
    for argument in given:
        name = argument.partition("=")[0]
        if name.startswith("--") and is_secret_name(name):
            raise UserError(f"{name} is a secret, which a script would show to others.", "Leave it out.")
    return [str(redacted(argument)) for argument in given]


def _without(given: list[str], option: str) -> list[str]:
    rest, kept = list(given), []
    while rest:
        argument = rest.pop(0)
        if argument == option:
            del rest[:1]
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept


def _check_options(rest: list[str]) -> Request:
    """Read the options as `aigc fit` would: a job may wait for hours before it could say what is wrong with them."""
    request = read_request("fit", rest)
    if request.help or request.prints_only:
        raise UserError("The options of `aigc fit` ask for a text.", "Leave out --help and --print_config.")

    from aigc_lightning.training.cli import run  # takes seconds: only after the command line made sense

    try:
        with redirect_stdout(StringIO()):
            run("fit", replace(read_request("fit", rest), parse_only=True))
    except SystemExit as exit_:
        if exit_.code not in (0, None):
            raise
    return request


def _slurm(options: argparse.Namespace, rest: list[str]) -> str:
    if _minutes(options.time) < _SHORTEST:
        raise UserError(
            f"--time {options.time} is less than {_SHORTEST} minutes, and the last three are for saving.",
            "Give more time.",
        )
    return slurm_script(_job(options, rest), options.time)


def _torchrun(options: argparse.Namespace, rest: list[str]) -> str:
    job = _job(options, rest)
    run = job.run or f"runs/{job.name}/torchrun-{datetime.now():%Y%m%d-%H%M%S}"
    head = options.head or ("localhost" if job.nodes == 1 else None)
    if head is None:
        raise UserError(
            f"The {job.nodes} nodes need one to meet at.", "Give the first one's name or address: --head NODE"
        )
    return torchrun_script(replace(job, run=run), head, options.port, options.max_restarts)


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
