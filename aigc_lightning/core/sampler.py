"""The order in which samples are seen, as a pure function of (seed, position).

Position p counts global batches since the start of the run. A resumed run therefore needs only the number of batches
done, and every process knows what the others see. The batches do not depend on how many processes share them, so a run
may continue on another number of processes, as long as they take as many samples per step.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Sampler

from aigc_lightning.core import keyed
from aigc_lightning.core.window import BatchLayout
from aigc_lightning.errors import UserError

#: Visits in order, int64 (N, 2): epoch and sample number.
Visits = npt.NDArray[np.int64]


class SampleKey(NamedTuple):
    """Identifies one visit to one sample; augmentation is keyed by it."""

    epoch: int  # number of earlier visits since the start of the run
    number: int  # of the sample in the dataset


class StreamSampler(Sampler[list[SampleKey]]):
    """Yields one process's batches of shuffled samples, starting from a position.

    Each epoch visits every sample exactly once over all processes. The last batch of an epoch may be smaller; if it has
    fewer samples than the run had processes when it began, it is merged into the batch before it.

    Args:
        num_samples: size of the dataset.
        batch_size: samples per process in a batch.
        seed: seed of the run.
        rank: rank of this process.
        world_size: number of processes.
        position: returns the number of batches already done; called at the start of each iteration.
        shuffle: if False, keep the dataset's order.
        original_world_size: number of processes that the run began with; `world_size` for a new run.

    Raises:
        UserError: fewer samples than processes, in the dataset or in the last batch of an epoch; or a batch size below
            1.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
        shuffle: bool = True,
        original_world_size: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}.", "Give at least 1.")
        if num_samples < world_size:
            raise UserError(f"{num_samples} samples cannot be shared by {world_size} processes.", "Use fewer devices.")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.position, self.shuffle = position, shuffle
        self.original_world_size = original_world_size or world_size
        if (last := self._share(len(self) - 1, 0, 1).count) < world_size:
            raise UserError(
                f"The last batch of an epoch has {last} samples, which {world_size} processes cannot share.",
                f"Use at most {last} (--trainer.devices).",
            )

    @property
    def global_batch_size(self) -> int:
        """Number of samples of all processes in a full batch."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self.num_samples, self.global_batch_size)
        return full + (1 if rest >= self.original_world_size or full == 0 else 0)

    def layout(self, position: int) -> BatchLayout:
        """Return the place of this process's samples in the global batch at a position."""
        return self._share(position % len(self), self.rank, self.world_size)

    def samples_before(self, position: int) -> int:
        """Return the number of samples that all processes together have seen at a position."""
        epochs, number = divmod(position, len(self))
        return epochs * self.num_samples + number * self.global_batch_size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield an epoch's number of batches from the current position on, across the end of an epoch."""
        position = self.position()
        order, order_epoch = np.empty((0, 2), np.int64), -1
        for step in range(position, position + len(self)):
            epoch, number = divmod(step, len(self))
            if epoch != order_epoch:
                order, order_epoch = self._order(epoch), epoch
            layout = self.layout(step)
            begin = self._bounds(number)[0] + layout.start
            # Keys are created lazily: those of a million samples take a hundred megabytes and a second.
            yield [SampleKey(*visit) for visit in order[begin : begin + layout.count].tolist()]

    def _share(self, number: int, rank: int, world_size: int) -> BatchLayout:
        """Return the place of a process's samples in the n-th global batch of the epoch."""
        first, last = self._bounds(number)
        total = last - first
        start, stop = (total * r // world_size for r in (rank, rank + 1))
        return BatchLayout(start, stop - start, total)

    def _bounds(self, number: int) -> tuple[int, int]:
        """Return the first and last (exclusive) place, in the epoch's order, of its n-th global batch."""
        first = number * self.global_batch_size
        last = self.num_samples if number == len(self) - 1 else first + self.global_batch_size
        return first, last

    def _order(self, epoch: int) -> Visits:
        """Return the visits of all processes in an epoch, in order."""
        count = self.num_samples
        numbers = keyed.permutation(count, self.seed, epoch).numpy() if self.shuffle else np.arange(count)
        return np.stack([np.full(count, epoch), numbers], 1)


class BalancedSampler(StreamSampler):
    """A stream that shows all classes equally often, or in given proportions, whatever their share of the dataset.

    An epoch has as many visits as the dataset has samples. Each class has its own endless stream: its samples in one
    random order after another. So no sample is visited twice before all of its class have been visited once, and each
    visit has its own key. In each epoch the samples of all classes are shuffled together.

    Args:
        labels: int64 (N,) the class of each sample; classes without samples are skipped.
        batch_size: samples per process in a batch.
        seed: seed of the run.
        weights: of all classes, how often each is shown; 0 for never. All are 1 by default.
        rank: rank of this process.
        world_size: number of processes.
        position: returns the number of batches already done.
        original_world_size: see `StreamSampler`.

    Raises:
        UserError: see `StreamSampler`.
    """

    def __init__(
        self,
        labels: Tensor,
        batch_size: int,
        seed: int,
        *,
        weights: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] = lambda: 0,
        original_world_size: int | None = None,
    ) -> None:
        super().__init__(
            len(labels),
            batch_size,
            seed,
            rank=rank,
            world_size=world_size,
            position=position,
            original_world_size=original_world_size,
        )
        found = sorted(set(labels.tolist()))
        self._members = [(labels == label).nonzero().flatten() for label in found]
        shown = [1 if weights is None else weights[label] for label in found]
        #: The class of each visit, again and again, before shuffling.
        self._turns = [number for number, times in enumerate(shown) for _ in range(times)]

    def _order(self, epoch: int) -> Visits:
        first = epoch * self.num_samples
        parts: list[Visits] = []
        for number, members in enumerate(self._members):
            begin, end = (self._visits_before(visit, number) for visit in (first, first + self.num_samples))
            parts += self._visits(number, members, begin, end)
        order = keyed.permutation(self.num_samples, self.seed, epoch).numpy()
        shuffled: Visits = np.concatenate(parts)[order]
        return shuffled

    def _visits_before(self, visit: int, number: int) -> int:
        """Return how many of the run's visits before this one are to the class of this number, before shuffling."""
        rounds, rest = divmod(visit, len(self._turns))
        return rounds * self._turns.count(number) + self._turns[:rest].count(number)

    def _visits(self, number: int, members: Tensor, begin: int, end: int) -> Iterator[Visits]:
        """Yield visits [begin, end) of a class's stream, one pass over the class at a time."""
        for turn in range(begin // len(members), -(-end // len(members))):
            start = turn * len(members)
            order = members[keyed.permutation(len(members), self.seed, turn, number)]
            numbers = order[max(begin - start, 0) : end - start].numpy()
            yield np.stack([np.full(len(numbers), turn), numbers], 1)
