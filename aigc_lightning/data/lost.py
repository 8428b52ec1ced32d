"""Images that cannot be read any more while a model trains: named, counted over all processes, held to a budget.

A source reports what it lost; the report travels with the batch from the loader's process to the training process.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist

from aigc_lightning.core.distributed import Poll
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.errors import UserError

#: Key under which a batch brings its reports; taken out before a model sees it.
LOST_KEY = "lost_images"

_ASK_EVERY = 10  # batches between two questions to the other processes whether one of them lost an image
_log = logging.getLogger(__name__)
_reports: ContextVar[list["LostImage"] | None] = ContextVar("reports", default=None)


@dataclass(frozen=True)
class LostImage:
    """A file that could be read when training began and cannot be read now.

    Args:
        error: which file, and why.
        root: the folder of the images.
        total: number of the images that it is one of.
        max_bad: share of them that may be lost.
        count: images that are lost with the file, which may be a shard.
    """

    error: CorruptImageError
    root: Path
    total: int
    max_bad: float
    count: int = 1


def report(lost: LostImage) -> None:
    """Tell the batch that is being fetched, or the log where none is."""
    reports = _reports.get()
    if reports is None:
        _log.warning(*_line(lost))
    else:
        reports.append(lost)


@contextmanager
def collected() -> Iterator[list[LostImage]]:
    """Give the list to which the reports of the block are added."""
    reports: list[LostImage] = []
    token = _reports.set(reports)
    try:
        yield reports
    finally:
        _reports.reset(token)


class LostImages:
    """Counts the lost images of a run, the same in all processes."""

    def __init__(self) -> None:
        self._lost: dict[str, LostImage] = {}  # by path: several loader processes may report one file
        self._told = 0  # how many of them the other processes know
        self._named = 0  # how many of them are in the log
        self._batches = 0
        self._poll = Poll()

    def take(self, batch: Any, trainer: pl.Trainer) -> None:
        """Take the reports out of a batch; called by all processes for each of their batches.

        Raises:
            UserError: more images are lost than may be; while training, in all processes at the same batch.
        """
        for lost in batch.pop(LOST_KEY, ()) if isinstance(batch, dict) else ():
            self._lost.setdefault(lost.error.path, lost)
        if trainer.world_size > 1 and trainer.training:
            self._batches += 1
            if self._batches % _ASK_EVERY:
                return
            if not self._poll.largest(len(self._lost) > self._told, trainer.strategy.root_device):
                return
            self._share()
        if len(self._lost) > self._named:
            self._name(trainer.is_global_zero)

    def _share(self) -> None:
        """Tell all processes what each has lost, called by all together."""
        parts: list[dict[str, LostImage]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, self._lost)
        self._lost = {path: lost for part in parts for path, lost in part.items()}
        self._told = len(self._lost)

    def _name(self, aloud: bool) -> None:
        """Write the new ones to the log, and hold all to their budgets."""
        for lost in [*self._lost.values()][self._named :] if aloud else ():
            _log.warning(*_line(lost))
        self._named = len(self._lost)
        budgets: dict[tuple[Path, int, float], list[LostImage]] = {}
        for path in sorted(self._lost):
            lost = self._lost[path]
            budgets.setdefault((lost.root, lost.total, lost.max_bad), []).append(lost)
        for (root, total, max_bad), group in budgets.items():
            count = sum(lost.count for lost in group)
            if count > max_bad * total:
                raise too_many(root, [lost.error for lost in group], total, max_bad, count)


def too_many(
    root: Path, bad: Sequence[CorruptImageError], total: int, max_bad: float, count: int | None = None
) -> UserError:
    """Return the error of a folder with more bad images than may be; `count` of them where not one a file."""
    allowed = int(max_bad * total)
    number = len(bad) if count is None else count
    what = f"{number} of {total} images in {root} cannot be read, {allowed} may be (data.max_bad {max_bad}):"
    return UserError(f"{what} {named(root, bad)}.", "Mend or remove them, or raise data.max_bad.")


def named(root: Path, bad: Sequence[CorruptImageError], limit: int = 3) -> str:
    """Return a few names with their reasons, and how many more there are."""
    shown = ", ".join(f"{os.path.relpath(error.path, root)} ({error.reason})" for error in bad[:limit])
    return f"{shown} and {len(bad) - limit} more" if len(bad) > limit else shown


def _line(lost: LostImage) -> tuple[str, str, str]:
    return "%s cannot be read any more (%s); the next image takes its place.", lost.error.path, lost.error.reason
