"""`aigc job torchrun`: a script that is started on each node."""

from dataclasses import replace
from datetime import datetime

from aigc_lightning.commands.job.options import job_of, job_parser, parse_job, write_script
from aigc_lightning.commands.job.scripts import torchrun_script
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command


def main(argv: list[str]) -> int:
    """Write a script that trains on several nodes under torchrun."""
    parser = job_parser(
        "torchrun", "aigc job torchrun --config dcgan_fashion_mnist --nodes 2 --gpus 4 --head node1 --out job.sh"
    )
    parser.add_argument("--head", help="name or address of the first node; required for several nodes")
    parser.add_argument("--port", type=int, default=29400, help="rendezvous port on that node (default: 29400)")
    parser.add_argument("--max-restarts", type=int, default=3, help="restarts after a failure (default: 3)")
    options, rest = parse_job(parser, argv)
    job = job_of(options, rest)
    run = job.run or f"runs/{job.name}/torchrun-{datetime.now():%Y%m%d-%H%M%S}"
    head = options.head or ("localhost" if job.nodes == 1 else None)
    if head is None:
        raise UserError(
            f"The {job.nodes} nodes need one to meet at.", "Give the first one's name or address: --head NODE"
        )
    script = torchrun_script(replace(job, run=run), head, options.port, options.max_restarts)
    write_script(script, options.out)
    if options.out is not None:
        steps = (f"  {command('bash', options.out, node)}" for node in range(options.nodes))
        echo("Next, one on each node:", *steps)
    return 0
