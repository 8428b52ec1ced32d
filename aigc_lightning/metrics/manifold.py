"""Fidelity and diversity as separate scores: precision and recall, density and coverage.

Papers: Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, NeurIPS 2019,
equations 1 and 2; Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020, equations 4
and 5.
Shapes: N and M samples, D dimensions, k neighbours.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.neighbours import distance_blocks, radii


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float  # of the fakes that lie in a real image's neighbourhood
    recall: float  # of the real images that lie in a fake's neighbourhood


class DensityCoverage(NamedTuple):
    """Density can exceed 1; coverage lies in [0, 1]."""

    density: float  # mean number of real neighbourhoods that a fake lies in, over k
    coverage: float  # share of the real neighbourhoods that hold a fake


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Return improved precision and recall; a neighbourhood reaches to the k-th nearest of its own side.

    Args:
        real: float (N, D).
        fake: float (M, D).
        k: neighbours.

    Raises:
        UserError: a side has no more than k samples.

    Examples:
        >>> real = torch.arange(10.0).unsqueeze(1)
        >>> precision_recall(real, real[:5] + 0.1, k=1)  # good images, of one half of the data
        PrecisionRecall(precision=1.0, recall=0.6)
    """
    _check(real, fake, k)
    real_radii, fake_radii = radii(real, k), radii(fake, k)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, columns in distance_blocks(fake, real):
        for cut, distances in columns:
            precise[rows] |= (distances <= real_radii[cut]).any(dim=1)
            recalled[cut] |= (distances <= fake_radii[rows, None]).any(dim=0)
    return PrecisionRecall(precise.double().mean().item(), recalled.double().mean().item())


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Return density and coverage, which single outliers among the samples change little.

    Args:
        real: float (N, D).
        fake: float (M, D).
        k: neighbours.

    Raises:
        UserError: a side has no more than k samples.
    """
    _check(real, fake, k)
    real_radii = radii(real, k)
    inside = 0
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for _, columns in distance_blocks(fake, real):
        for cut, distances in columns:
            near = distances <= real_radii[cut]
            inside += int(near.sum())
            covered[cut] |= near.any(dim=0)
    return DensityCoverage(inside / (k * len(fake)), covered.double().mean().item())


def _check(real: Tensor, fake: Tensor, k: int) -> None:
    fewest = min(len(real), len(fake))
    if fewest <= k:
        raise UserError(
            f"Neighbourhoods of {k} images need more than {k} images on each side, and one side has {fewest}.",
            "Take more images.",
        )
