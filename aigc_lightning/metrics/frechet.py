"""Frechet distance between Gaussians fitted to two sets of features.

Papers: Dowson, Landau, The Fréchet Distance between Multivariate Normal Distributions, J. Multivariate Analysis 1982;
Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, section "Performance Measure" (FID).
Shapes: D dimensions, R rank of a covariance matrix.
"""

import torch
from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return |mean_a - mean_b|^2 + tr(C_a + C_b - 2 sqrt(C_a C_b)), which is 0 for equal moments.

    With C_a = F F^T, the eigenvalues of C_a C_b are those of the symmetric F^T C_b F: no matrix
    square root is needed, and with fewer samples than dimensions the matrix has only as many rows as C_a has rank.

    Args:
        a: moments of at least two vectors.
        b: moments of at least two vectors of the same size.

    Raises:
        UserError: there are fewer than two vectors, or features are not finite.

    Examples:
        >>> real = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
        >>> distance = frechet_distance(Moments.of(real), Moments.of(real + 1))  # moved by 1 in each of 8 dimensions
        >>> round(distance, 3)
        8.0
    """
    for moments in (a, b):
        if moments.count < 2:
            raise UserError(
                f"A Frechet distance needs at least 2 images on each side, but one side has {moments.count}.",
                "Use more images.",
            )
        if not (moments.mean.isfinite().all() and moments.scatter.isfinite().all()):
            raise UserError(
                "The features are not finite, so they have no Frechet distance.",
                "Check the extractor: its weights or activations overflow.",
            )
    few, many = sorted((a, b), key=lambda moments: moments.count)
    varying = few.scatter.diagonal() > 0  # constant ones, such as dead units, add nothing and make the matrix singular
    factor = _factor(few.scatter[varying][:, varying] / (few.count - 1), few.count)
    product = factor.T @ (many.scatter[varying][:, varying] @ factor)
    del factor  # matrices of this size dominate the memory
    roots = (torch.linalg.eigvalsh(product).clamp_min(0) / (many.count - 1)).sqrt()
    variances = sum(moments.scatter.trace() / (moments.count - 1) for moments in (a, b))
    distance = float((a.mean - b.mean).square().sum() + variances - 2 * roots.sum())
    return max(0.0, distance)  # rounding errors can make it slightly negative


def _factor(covariance: Tensor, count: int) -> Tensor:
    """Return F (D, R) with F F^T equal to the covariance (D, D) of `count` vectors."""
    factor: Tensor
    if count > len(covariance):
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return factor
    values, vectors = torch.linalg.eigh(covariance)
    # Eigenvalues below this are rounding errors, whose square roots would add up.
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    factor = vectors[:, kept] * values[kept].sqrt()
    return factor
