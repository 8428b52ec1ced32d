"""Images found unreadable during training: named, counted over all processes, and limited by a budget.

A source reports lost images; the reports travel with the batch from the loader process to the training process.
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

#: Key of a batch's reports; removed before a model sees it.
LOST_KEY = "lost_images"

_ASK_EVERY = 10  # batches between two exchanges of lost images with the other processes
_SHOWN = 10  # maximum number of lost images named on the screen
_log = logging.getLogger(__name__)
_reports: ContextVar[list["LostImage"] | None] = ContextVar("reports", default=None)


@dataclass(frozen=True)
class Budget:
    """The number of images of a folder that may be unreadable.

    Args:
        root: the folder, for messages.
        total: number of its images in use.
        max_bad: fraction of them that may be unreadable.
    """

    root: Path
    total: int
    max_bad: float

    def check(self, bad: Sequence[CorruptImageError], count: int | None = None) -> None:
        """Check the unreadable images against the budget.

        Args:
            bad: the unreadable files.
            count: number of images lost with them, if not one each.

        Raises:
            UserError: there are more than allowed.
        """
        if (len(bad) if count is None else count) > self.max_bad * self.total:
            raise self.exceeded(bad, count)

    def exceeded(self, bad: Sequence[CorruptImageError], count: int | None = None) -> UserError:
        """Return the error for a folder with more unreadable images than allowed, see `check`."""
        allowed = int(self.max_bad * self.total)
        number = len(bad) if count is None else count
        what = f"{number} of {self.total} images in {shown(self.root)} cannot be read, with {allowed} allowed"
        what = f"{what} (data.max_bad {self.max_bad}): {named(self.root, bad)}."
        return UserError(what, "Repair or remove them, or raise data.max_bad.")

    def none_left(self, bad: Sequence[CorruptImageError], part: str = "") -> UserError:
        """Return the error for a folder, or a part of it, without any readable image."""
        where = f"{f'for {part} ' if part else ''}in {shown(self.root)}"
        return UserError(f"No readable image is left {where}: {named(self.root, bad)}.", "Repair or add files.")


@dataclass(frozen=True)
class LostImage:
    """A listed file that cannot be read.

    Args:
        error: names the file and the reason.
        budget: the budget that it counts against.
        count: number of images lost with the file, which may be a shard.
    """

    error: CorruptImageError
    budget: Budget
    count: int = 1


def report(lost: LostImage, *, again: bool = False) -> None:
    """Report a lost image to the batch being fetched, or to the log if there is none.

    Args:
        lost: the lost image.
        again: whether it was reported before. It is reported with every batch, since a batch may be dropped on its way.
    """
    reports = _reports.get()
    if reports is not None:
        reports.append(lost)
    elif not again:
        _log.warning(*_line(lost))


def is_collected() -> bool:
    """Return whether a batch is being fetched that will carry the reports to the training process."""
    return _reports.get() is not None


@contextmanager
def collected() -> Iterator[list[LostImage]]:
    """Yield the list that collects the reports of the block."""
    reports: list[LostImage] = []
    token = _reports.set(reports)
    try:
        yield reports
    finally:
        _reports.reset(token)


class LostImages:
    """Counts the lost images of a run, equally in all processes."""

    def __init__(self) -> None:
        self._lost: dict[str, LostImage] = {}  # by path: several loader processes may report one file
        self._told = 0  # how many of them the other processes know of
        self._named = 0  # how many of them have been logged
        self._batches = 0
        self._poll = Poll()

    def take(self, batch: Any, trainer: pl.Trainer) -> None:
        """Remove the reports from a batch; called by all processes for each of their batches.

        Raises:
            UserError: more images are lost than allowed; when fitting with several processes, raised in all of them at
                the same training batch.
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
            if alone or trainer.state.fn != TrainerFn.FITTING:  # else the next training batches inform all processes
                self._check()

    def _share(self) -> None:
        """Exchange lost images among all processes; a collective operation."""
        parts: list[dict[str, LostImage]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, self._lost)
        self._lost = {path: lost for part in parts for path, lost in part.items()}
        self._told = len(self._lost)

    def _name(self, aloud: bool) -> None:
        """Log the new ones; on the screen, show the first ones and then only their number."""
        for number, lost in enumerate([*self._lost.values()][self._named :] if aloud else (), self._named + 1):
            _log.log(logging.WARNING if number <= _SHOWN else logging.INFO, *_line(lost))
            if number > _SHOWN and number % _SHOWN == 0 and (number // _SHOWN).bit_count() == 1:
                _log.warning("%d images so far cannot be read; the run's log names them all.", number)
        self._named = len(self._lost)

    def _check(self) -> None:
        budgets: dict[Budget, list[LostImage]] = {}
        for path in sorted(self._lost):
            budgets.setdefault(self._lost[path].budget, []).append(self._lost[path])
        for budget, group in budgets.items():
            budget.check([lost.error for lost in group], sum(lost.count for lost in group))


def named(root: Path, bad: Sequence[CorruptImageError], limit: int = 3) -> str:
    """Return a few names with their reasons, and the number of further ones."""
    items = (f"{shown(os.path.relpath(error.path, root))} ({shown(error.reason)})" for error in bad[:limit])
    listed = ", ".join(items)
    return f"{listed} and {len(bad) - limit} more" if len(bad) > limit else listed


def _line(lost: LostImage) -> tuple[str, str, str]:
    error = lost.error
    return "%s cannot be read (%s); the next image takes its place.", shown(error.path), shown(error.reason)
