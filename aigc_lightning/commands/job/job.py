"""`aigc job`: scripts that start a run on several nodes."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.job.slurm import main as slurm
from aigc_lightning.commands.job.torchrun import main as torchrun

_HELP = """Write the script of a job on several nodes.

Usage: aigc job slurm --config C --nodes 2 --gpus 4 --time 24:00:00 [--out job.sh] [OPTIONS OF aigc fit]
       aigc job torchrun --config C --nodes 2 --gpus 4 --head NODE [--out job.sh] [OPTIONS OF aigc fit]

`aigc job slurm --help` and `aigc job torchrun --help` say more; docs/cluster.md has a walk-through.

Examples:
  aigc job slurm --config dcgan_fashion_mnist --nodes 2 --gpus 4 --time 24:00:00 --out job.sh
  aigc job torchrun --config dcgan_fashion_mnist --nodes 2 --gpus 4 --head node1"""


def job(argv: list[str]) -> int:
    """Write the script of a job on several nodes: `aigc job slurm` or `aigc job torchrun`."""
    return dispatch("aigc job", argv, {"slurm": slurm, "torchrun": torchrun}, _HELP)
