"""Images that turn out to be bad while a model trains: named, counted over all processes, held to a budget.

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
from lightning.pytorch.trainer.states import TrainerFn

from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.run.collectives import Poll
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.errors import UserError

#: Key under which a batch brings its reports; taken out before a model sees it.
LOST_KEY = "lost_images"

_ASK_EVERY = 10  # batches between two questions to the other processes whether one of them lost an image
_SHOWN = 10  # lost images that are named on the screen
_log = logging.getLogger(__name__)
_reports: ContextVar[list["LostImage"] | None] = ContextVar("reports", default=None)


@dataclass(frozen=True)
class Budget:
    """How many images of a folder may be bad.

    Args:
        root: the folder, as it is named in messages.
        total: number of its images that are used.
        max_bad: share of them that may be bad.
    """

    root: Path
    total: int
    max_bad: float

    def check(self, bad: Sequence[CorruptImageError], count: int | None = None) -> None:
        """Hold bad images to the budget.

        Args:
            bad: what cannot be read.
            count: number of images that are lost with it, where not one each.

        Raises:
            UserError: there are more than may be.
        """
        if (len(bad) if count is None else count) > self.max_bad * self.total:
            raise self.exceeded(bad, count)

    def exceeded(self, bad: Sequence[CorruptImageError], count: int | None = None) -> UserError:
        """Return the error of a folder with more bad images than may be, see `check`."""
        allowed = int(self.max_bad * self.total)
        number = len(bad) if count is None else count
        what = f"{number} of {self.total} images in {shown(self.root)} cannot be read, {allowed} may be"
        what = f"{what} (data.max_bad {self.max_bad}): {named(self.root, bad)}."
        return UserError(what, "Mend or remove them, or raise data.max_bad.")

    def none_left(self, bad: Sequence[CorruptImageError], part: str = "") -> UserError:
        """Return the error of a part of a folder in which nothing can be read; of all of it without the part's name."""
        where = f"{f'for {part} ' if part else ''}in {shown(self.root)}"
        return UserError(f"No image that can be read is left {where}: {named(self.root, bad)}.", "Mend or add files.")


@dataclass(frozen=True)
class LostImage:
    """A file that was listed and cannot be read.

    Args:
        error: which file, and why.
        budget: that it counts against.
        count: images that are lost with the file, which may be a shard.
    """

    error: CorruptImageError
    budget: Budget
    count: int = 1


def report(lost: LostImage, *, again: bool = False) -> None:
    """Tell the batch that is being fetched, or the log where none is.

    Args:
        lost: the image.
        again: whether it was reported before. Batches are told each time, for one may be dropped on its way.
    """
    reports = _reports.get()
    if reports is not None:
        reports.append(lost)
    elif not again:
        _log.warning(*_line(lost))


def is_collected() -> bool:
    """Return whether a batch is being fetched that will bring the reports to where they are counted."""
    return _reports.get() is not None


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
            UserError: more images are lost than may be; in a fit of several processes, in all of them at the same
                training batch.
        """
        for lost in batch.pop(LOST_KEY, ()) if isinstance(batch, dict) else ():
            self._lost.setdefault(lost.error.path, lost)
        alone = trainer.world_size == 1
        if not alone and trainer.training:
            self._batches += 1
            if self._batches % _ASK_EVERY:
                return
            if not self._poll.largest(len(self._lost) > self._told, trainer.strategy.root_device):
                return
            self._share()
            self._name(trainer.is_global_zero)
            self._check()
        elif len(self._lost) > self._named:
            self._name(trainer.is_global_zero)
            if alone or trainer.state.fn != TrainerFn.FITTING:  # else the next training batches tell all processes
                self._check()

    def _share(self) -> None:
        """Tell all processes what each has lost, called by all together."""
        parts: list[dict[str, LostImage]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, self._lost)
        self._lost = {path: lost for part in parts for path, lost in part.items()}
        self._told = len(self._lost)

    def _name(self, aloud: bool) -> None:
        """Write the new ones to the log; on the screen, the first ones and then how many there are."""
        for number, lost in enumerate([*self._lost.values()][self._named :] if aloud else (), self._named + 1):
            _log.log(logging.WARNING if number <= _SHOWN else logging.INFO, *_line(lost))
            if number > _SHOWN and number % _SHOWN == 0 and (number // _SHOWN).bit_count() == 1:
                _log.warning("%d images cannot be read so far; the run's log names them all.", number)
        self._named = len(self._lost)

    def _check(self) -> None:
        budgets: dict[Budget, list[LostImage]] = {}
        for path in sorted(self._lost):
            budgets.setdefault(self._lost[path].budget, []).append(self._lost[path])
        for budget, group in budgets.items():
            budget.check([lost.error for lost in group], sum(lost.count for lost in group))


def named(root: Path, bad: Sequence[CorruptImageError], limit: int = 3) -> str:
    """Return a few names with their reasons, and how many more there are."""
    items = (f"{shown(os.path.relpath(error.path, root))} ({shown(error.reason)})" for error in bad[:limit])
    listed = ", ".join(items)
    return f"{listed} and {len(bad) - limit} more" if len(bad) > limit else listed


def _line(lost: LostImage) -> tuple[str, str, str]:
    error = lost.error
    return "%s cannot be read (%s); the next image takes its place.", shown(error.path), shown(error.reason)
