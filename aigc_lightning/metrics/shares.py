"""Shares of classes: intervals, and whether groups differ in them.

Intervals: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927. Test: Pearson's
chi-squared test of homogeneity.
Shapes: G groups, K classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

#: Quantile of the normal distribution that leaves 2.5 % on either side.
_TWO_SIDED_95 = 1.959964


class Interval(NamedTuple):
    """A share with its 95 % confidence interval; all NaN without any trials."""

    share: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return the share of successes, with an interval that stays within [0, 1] and has a width at 0 and 1 as well.

    Examples:
        >>> [round(number, 3) for number in wilson_interval(successes=100, trials=100)]
        [1.0, 0.963, 1.0]
    """
    if not trials:
        return Interval(math.nan, math.nan, math.nan)
    share, squared = successes / trials, _TWO_SIDED_95**2
    middle = (share + squared / (2 * trials)) / (1 + squared / trials)
    spread = share * (1 - share) / trials + squared / (4 * trials**2)
    reach = _TWO_SIDED_95 / (1 + squared / trials) * math.sqrt(spread)
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach))


def homogeneity(counts: Tensor) -> float:
    """Return the p-value of the hypothesis that all groups have the same shares of the classes.

    The approximation by the chi-squared distribution holds if about five images or more are expected in each cell.

    Args:
        counts: int64 (G, K), the images of each class in each group.

    Returns:
        A number in [0, 1]; NaN if fewer than two groups or classes have images.
    """
    counts = counts.double()
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    freedom = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    if freedom < 1:
        return math.nan
    expected = counts.sum(1, keepdim=True) * counts.sum(0) / counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor(freedom / 2).double(), statistic / 2))


def class_coverage(real: Tensor, fake: Tensor, least: float = 0.1) -> float:
    """Return the share of the classes of real images that have at least a part of their share among the fakes.

    Args:
        real: int64 (K,), numbers of real images.
        fake: int64 (K,), numbers of generated images.
        least: part of the share of the real images from which a class counts as covered.
    """
    known = real > 0
    shares = fake / fake.sum().clamp(min=1), real / real.sum().clamp(min=1)
    return ((shares[0] >= least * shares[1]) & known).sum().item() / max(int(known.sum()), 1)


def share_distance(first: Tensor, second: Tensor) -> float:
    """Return the total variation distance of the shares of two groups: the share that would have to change its class.

    Args:
        first: int64 (K,), the images of each class in one group.
        second: the same in the other.
    """
    shares = [counts.double() / counts.sum() for counts in (first, second)]
    return ((shares[0] - shares[1]).abs().sum() / 2).item()
