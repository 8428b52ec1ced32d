"""`aigc trust`: what makes pictures verifiable. Nothing heavy is imported before it is needed."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.trust.detector import main as detector
from aigc_lightning.commands.trust.keys import main as keys

_HELP = """Make pictures verifiable, and tell generated ones from real ones.

Usage: aigc trust keys new [FOLDER] [--name NAME]   keys for --sign of sample, edit and interpolate
       aigc trust detector --real DATA --generated RUN_OR_FOLDER...   a classifier of generated pictures

`aigc verify FILES` says what pictures reveal about their origin.

Examples:
  aigc trust keys new
  aigc trust keys new keys --name Ada
  aigc trust detector --real digits --generated runs/dcgan_digits/1"""


def trust(argv: list[str]) -> int:
    """Make keys with which pictures are signed, and detectors of generated pictures: keys, detector."""
    return dispatch("aigc trust", argv, {"keys": keys, "detector": detector}, _HELP)
