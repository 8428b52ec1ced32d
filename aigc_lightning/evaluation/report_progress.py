"""How long evaluations say what they do."""

from collections.abc import Callable

#: Called with what is being done, the images that it takes, and those done since the last call.
Progress = Callable[[str, int, int], None]


def silent(what: str, total: int, done: int) -> None:
    """Show nothing."""
