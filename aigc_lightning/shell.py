"""Commands that can be pasted into a shell. Standard library only."""

import shlex
from pathlib import Path


def command(*parts: object) -> str:
    """Quote parts into a command line for a shell.

    Args:
        parts: the command and its arguments; a path that begins with a dash is not taken for an option.
    """
    return shlex.join(
        f"./{part}" if isinstance(part, Path) and str(part).startswith("-") else str(part) for part in parts
    )
