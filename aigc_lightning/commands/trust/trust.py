"""`aigc trust`: what makes pictures verifiable. Nothing heavy is imported before it is needed."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.trust.keys import main as keys

_HELP = """Make pictures verifiable.

Usage: aigc trust keys new [FOLDER] [--name NAME]   keys for --sign of sample, edit and interpolate

`aigc verify FILES` says what pictures reveal about their origin.

Examples:
  aigc trust keys new
  aigc trust keys new keys --name Ada"""


def trust(argv: list[str]) -> int:
    """Make keys with which pictures are signed: keys."""
    return dispatch("aigc trust", argv, {"keys": keys}, _HELP)
