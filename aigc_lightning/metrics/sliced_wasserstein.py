"""Sliced Wasserstein distance.

Paper: Rabin, Peyré, Delon, Bernot, Wasserstein Barycenter and its Application to Texture Mixing, SSVM 2011.
Departures from the paper: the distance on a line is Wasserstein-1 (the mean of absolute differences), not -2.
Shapes: N samples, D dimensions, P projections.
"""

import torch
from torch import Tensor

from aigc_lightning.core import keyed


def random_directions(dimensions: int, num_projections: int = 128, seed: int = 0) -> Tensor:
    """Return unit vectors drawn uniformly from the sphere, as the columns of a float32 matrix (D, P) on the CPU."""
    vectors = keyed.normal((dimensions, num_projections), seed)
    lengths: Tensor = vectors.norm(dim=0, keepdim=True)
    return vectors / lengths


def wasserstein_on_lines(real: Tensor, fake: Tensor) -> float:
    """Return the one-dimensional Wasserstein-1 distance of two samples, averaged over several lines.

    Args:
        real: (N, P), the coordinates on one line per column.
        fake: (N, P).

    Raises:
        ValueError: the shapes differ.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real is {tuple(real.shape)} and fake {tuple(fake.shape)}: they must have the same shape")
    # In one dimension, optimal transport matches the k-th smallest values.
    return (real.sort(dim=0).values - fake.sort(dim=0).values).abs().mean().item()


def sliced_wasserstein(real: Tensor, fake: Tensor, num_projections: int = 128, seed: int = 0) -> float:
    """Return the mean Wasserstein-1 distance of two sets along random directions; 0 for equal sets.

    Args:
        real: float (N, D).
        fake: float (N, D), as many as real.
        num_projections: number of directions.
        seed: seed of the directions; the distance depends on it slightly.

    Raises:
        ValueError: the shapes differ.

    Examples:
        >>> points = torch.eye(4)
        >>> sliced_wasserstein(points, points.flip(0))  # the same set in another order
        0.0
    """
    directions = random_directions(real.shape[1], num_projections, seed).to(real.device)
    with torch.no_grad():
        return wasserstein_on_lines(real.float() @ directions, fake.float() @ directions)
