"""Commands as people can paste them. Standard library only."""

import shlex
from pathlib import Path


def command(*parts: object) -> str:
    """Return a command line that a shell reads as these parts, whatever characters are in them.

    Args:
        parts: the command and its arguments; of a path that begins with a dash, none is taken for an option.
    """
    return shlex.join(
        f"./{part}" if isinstance(part, Path) and str(part).startswith("-") else str(part) for part in parts
    )
