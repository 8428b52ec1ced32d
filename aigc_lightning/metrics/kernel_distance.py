"""Kernel distance: squared maximum mean discrepancy under a cubic kernel, KID with Inception features.

Paper: Bińkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, ICLR 2018, section 4 and equation 4.
Shapes: N and M samples, D dimensions, S samples in a subset.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError

Floats = npt.NDArray[np.floating]


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
    # NumPy sees that x x^T is symmetric and computes half of it; PyTorch does not.
    a, b = real.cpu().numpy(), fake.cpu().numpy()
    values = np.empty(subsets)
    for number in range(subsets):
        x = a[keyed.permutation(len(a), seed, number, 0)[:size].numpy()]
        y = b[keyed.permutation(len(b), seed, number, 1)[:size].numpy()]
        values[number] = _squared_discrepancy(x, y)
    return KernelDistance(float(values.mean()), float(values.std()))


def _squared_discrepancy(x: Floats, y: Floats) -> float:
    """Return the unbiased MMD^2 of two sets (S, D)."""
    size = len(x)
    pairs = sum(
        kernel.sum(dtype=np.float64) - kernel.trace(dtype=np.float64) for kernel in (_kernel(x, x), _kernel(y, y))
    )
    return float(pairs / (size * (size - 1)) - 2 * _kernel(x, y).mean(dtype=np.float64))


def _kernel(x: Floats, y: Floats) -> Floats:
    """Return the kernel of all pairs, (S, S)."""
    products = x @ y.T
    products /= x.shape[1]
    products += 1
    return products * products * products
