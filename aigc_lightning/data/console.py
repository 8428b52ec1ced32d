"""Console output of data: progress bars, and warnings of the first process."""

import logging
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0  # work that takes longer shows its progress
_REFRESH_S = 0.1

Result = TypeVar("Result")


def watched(steps: Iterable[Result], title: str, total: int | None = None) -> Iterator[Result]:
    """Iterate over steps, with a progress bar once they take longer than `_PATIENCE_S`.

    Args:
        steps: of the work.
        title: description of the work, such as "Checking images".
        total: number of steps; if None, only the count so far is shown.
    """
    due, bar, done = monotonic() + _PATIENCE_S, None, 0
    try:
        for done, step in enumerate(steps, 1):
            if (now := monotonic()) > due:
                bar = bar or _started(title, total)
                due = now + _REFRESH_S
                if bar is not None:
                    bar.update(bar.task_ids[0], completed=done)
            yield step
    finally:
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done)
            bar.stop()


@rank_zero_only
def _started(title: str, total: int | None) -> "Progress":
    from rich.console import Console  # short work need not wait for this import
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    known = (BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    unknown = (BarColumn(), TextColumn("{task.completed:,}"))
    bar = Progress(
        TextColumn("{task.description}"), *(unknown if total is None else known), console=Console(stderr=True)
    )
    bar.add_task(title, total=total)
    bar.start()
    return bar


@rank_zero_only
def warn(message: str, *values: object) -> None:
    """Log a warning, in the first process only."""
    _log.warning(message, *values)
