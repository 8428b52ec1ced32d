"""Kernel distance: squared maximum mean discrepancy under a cubic kernel, KID with Inception features.

Paper: Bińkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, ICLR 2018, section 4 and equation 4.
Shapes: N and M samples, D dimensions, S samples in a subset.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError

_BLOCK = 256  # rows of the kernel matrix at a time


class KernelDistance(NamedTuple):
    """Mean and standard deviation over the subsets."""

    mean: float
    std: float


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Return the unbiased estimate of MMD^2 with k(x, y) = (x . y / D + 1)^3, over random subsets.

    It is unbiased at any number of samples, so it can be below 0, and its mean does not depend on the subset size.

    Args:
        real: float (N, D).
        fake: float (M, D).
        subsets: how many pairs of subsets are drawn.
        subset_size: S; smaller where there are fewer samples.
        seed: of the subsets.

    Raises:
        UserError: fewer than two samples.
    """
    size = min(subset_size, len(real), len(fake))
    if size < 2:
        raise UserError(f"A kernel distance needs 2 images on each side at least, and one has {size}.", "Take more.")
    values = torch.empty(subsets, dtype=torch.float64)
    for number in range(subsets):
        x = real[keyed.permutation(len(real), seed, number, 0)[:size]]
        y = fake[keyed.permutation(len(fake), seed, number, 1)[:size]]
        values[number] = _squared_discrepancy(x, y)
    return KernelDistance(values.mean().item(), values.std(correction=0).item())


def _squared_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased MMD^2 of two sets (S, D), a float64 scalar."""
    size = len(x)
    return (_sum_of_pairs(x) + _sum_of_pairs(y)) / (size * (size - 1)) - 2 * _sum(x, y) / size**2


def _sum_of_pairs(x: Tensor) -> Tensor:
    """Return the sum of the kernel over all pairs of different vectors; the matrix is symmetric, so half is enough."""
    total = -(x.square().sum(dim=1) / x.shape[1] + 1).pow(3).sum(dtype=torch.float64)
    for start in range(0, len(x), _BLOCK):
        block, rest = x[start : start + _BLOCK], x[start + _BLOCK :]
        total = total + _sum(block, block) + 2 * _sum(block, rest)
    return total


def _sum(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).div_(x.shape[1]).add_(1).pow_(3).sum(dtype=torch.float64)
