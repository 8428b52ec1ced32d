"""Progress reporting of long evaluations."""

from collections.abc import Callable

#: Called with the current task, its number of images, and the images processed since the last call.
Progress = Callable[[str, int, int], None]


def silent(what: str, total: int, done: int) -> None:
    """Show nothing."""
