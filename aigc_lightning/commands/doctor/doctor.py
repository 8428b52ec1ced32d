"""`aigc doctor`: a report on this machine, and a check that a config's runs resume exactly."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.doctor.machine import main as machine
from aigc_lightning.commands.doctor.resume import main as resume

_HELP = """Report on this machine, or check that runs resume exactly.

Usage: aigc doctor                      versions, CPUs and GPUs; under srun those of all nodes
       aigc doctor resume --config C    whether a stopped and resumed run equals one that was never stopped

`aigc doctor resume --help` shows its options.

Examples:
  aigc doctor
  aigc doctor resume --config dcgan_digits"""


def doctor(argv: list[str]) -> int:
    """Report on this machine, or all nodes under srun; `doctor resume --config C`: whether C resumes exactly."""
    return dispatch("aigc doctor", argv, {"resume": resume}, _HELP, default=machine)
