"""Batches that take every sample independently, as the accountant assumes."""

from collections.abc import Callable, Iterator

import numpy as np

from aigc_lightning.core import keyed
from aigc_lightning.core.sampler import SampleKey, StreamSampler
from aigc_lightning.core.window import BatchLayout

_DRAW = 0xB0155  # key of the choice of samples


class PoissonSampler(StreamSampler):
    """Yields batches that take each sample with one probability, as a pure function of (secret, position).

    An epoch has as many batches as it takes to visit each sample once on average. A batch without any sample holds
    sample 0 in its place, since loaders and models expect one; `count` says that it does not count.

    Args:
        num_samples: size of the dataset.
        batch_size: mean number of samples in a batch.
        secret: key of the choice, which has to remain unknown to those that privacy is to be kept from.
        position: returns the number of batches already done; called at the start of each iteration.
    """

    def __init__(
        self, num_samples: int, batch_size: int, secret: int, *, position: Callable[[], int] = lambda: 0
    ) -> None:
        super().__init__(num_samples, batch_size, secret, position=position)
        self._latest: tuple[int, list[int]] = (-1, [])

    @property
    def rate(self) -> float:
        """Probability with which a batch takes a sample."""
        return min(1.0, self.batch_size / self.num_samples)

    def count(self, position: int) -> int:
        """Return the number of samples in the batch at a position; it may be 0."""
        return len(self._chosen(position))

    def layout(self, position: int) -> BatchLayout:
        """Return the place of a batch of mean size: how many samples there really are is private."""
        return BatchLayout(0, self.batch_size, self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield an epoch's number of batches from the current position on; the visits of a batch carry its position."""
        position = self.position()
        for step in range(position, position + len(self)):
            yield [SampleKey(step, number) for number in self._chosen(step) or [0]]

    def samples_before(self, position: int) -> int:
        """Return the mean number of samples seen at a position."""
        return position * self.batch_size

    def _chosen(self, position: int) -> list[int]:
        if self._latest[0] != position:
            draws = keyed.uniform(self.seed, _DRAW, position, np.arange(self.num_samples))
            self._latest = (position, np.flatnonzero(draws < self.rate).tolist())
        return self._latest[1]
