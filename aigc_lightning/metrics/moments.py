"""Mean and covariance of a stream of vectors, in one pass.

Paper: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, COMPSTAT 1982.
Raw sums of squares lose all precision if the mean is large compared with the spread; sums about the mean do not.
Shapes: N samples, D dimensions.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 1024  # rows converted to float64 at a time


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of vectors, in float64.

    Args:
        count: N.
        mean: (D,).
        scatter: (D, D), the sum of outer products of deviations from the mean.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, dimensions: int) -> "Moments":
        """Return the moments of an empty set."""
        return cls(0, torch.zeros(dimensions).double(), torch.zeros(dimensions, dimensions).double())

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Return the moments of all rows of (N, D)."""
        return cls.empty(features.shape[1]).add(features)

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance matrix (D, D) of at least two vectors."""
        assert self.count > 1
        return self.scatter / (self.count - 1)

    def add(self, features: Tensor) -> "Moments":
        """Return the moments with the rows of (N, D) added."""
        moments = self
        for start in range(0, len(features), _BLOCK):
            rows = features[start : start + _BLOCK].detach().double().cpu()
            moments = moments._combined(len(rows), rows.mean(dim=0), rows - rows.mean(dim=0))
        return moments

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of vectors together."""
        both = self._combined(other.count, other.mean, other.scatter[:0])
        return Moments(both.count, both.mean, both.scatter + other.scatter)

    def _combined(self, count: int, mean: Tensor, centred: Tensor) -> "Moments":
        """Add vectors given by deviations from their mean; the difference of the means acts as one more vector."""
        total = self.count + count
        if not total:
            return self
        shift = mean - self.mean
        rows = torch.cat([centred, shift[None] * math.sqrt(self.count * count / total)]).numpy()
        # NumPy exploits that the product is symmetric and computes half of it; PyTorch does not.
        scatter = torch.from_numpy(rows.T @ rows).add_(self.scatter)
        return Moments(total, self.mean + shift * (count / total), scatter)
