"""`aigc doctor`: what this machine has, and whether a config's runs can be resumed exactly."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.doctor.machine import main as machine
from aigc_lightning.commands.doctor.resume import main as resume

_HELP = """Report what this machine has, or check that runs resume exactly.

Usage: aigc doctor                      versions, processors and GPUs; under srun those of all nodes
       aigc doctor resume --config C    whether a stopped and resumed run equals one that was never stopped

`aigc doctor resume --help` shows its options."""


def doctor(argv: list[str]) -> int:
    """Report what this machine has, or all nodes under srun; `doctor resume --config C`: whether C resumes exactly."""
    return dispatch("aigc doctor", argv, {"resume": resume}, _HELP, default=machine)
