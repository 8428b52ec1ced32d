"""A smooth filling of holes, from means over larger and larger neighbourhoods, made smoother at each size.

Sources: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.3 (pull and push); Smith, Wessel, Gridding with
Continuous Curvature Splines in Tension, Geophysics 1990; Hestenes, Stiefel, Methods of Conjugate Gradients for Solving
Linear Systems, 1952. Smooth means that the sum of squared Laplacians is small, as for `biharmonic`, and to a smaller
part that of squared gradients, which keeps large holes from overshooting. A few steps are enough since each size starts
from the smaller one.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

_STEPS = 16  # of conjugate gradients at full size, and twice as many at each smaller one, where they cost little
_MOST_STEPS = 64
#: Weight of the gradients: the best of 0 to 0.4 on training crops of photographs.
TENSION = 0.4
_TINY = 1e-20


def push_pull(images: Tensor, masks: Tensor) -> Tensor:
    """Return images (B, C, H, W) with their holes filled; all other pixels are left as they are.

    Args:
        images: what is in the holes does not matter.
        masks: (B, 1, H, W), 1 in holes and 0 elsewhere; a hole may be all of an image, which becomes 0.
    """
    holes, dtype = masks > 0.5, precise(images)
    return _filled(torch.where(holes, 0.0, images).to(dtype), 1 - masks.to(dtype), _STEPS).to(images)


def precise(images: Tensor) -> torch.dtype:
    """Return in which numbers conjugate gradients compute: float64, where a device has it.

    In float32 what converged goes on with rounding errors, which differ between programs and grow to 4e-3.
    """
    return torch.float32 if images.device.type == "mps" else torch.float64


def _filled(images: Tensor, known: Tensor, steps: int) -> Tensor:
    """Fill where `known` (B, 1, H, W), the share of each pixel that is known, is below 1."""
    height, width = images.shape[-2:]
    if max(height, width) == 1:
        return images
    padding = [0, width % 2, 0, height % 2]
    weights = avg_pool2d(pad(known, padding), 2)
    means = avg_pool2d(pad(images * known, padding), 2) / weights.clamp_min(1e-8)
    # A pixel of the smaller image is known as soon as one of its four is.
    smaller = _filled(means, (4 * weights).clamp_max(1), min(2 * steps, _MOST_STEPS))
    smooth = interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return _smoothed(known * images + (1 - known) * smooth, (known == 0).to(images), steps)


def _smoothed(images: Tensor, unknown: Tensor, steps: int) -> Tensor:
    """Make images (B, C, H, W) smoother where `unknown` (B, 1, H, W) is 1."""
    residual = -unknown * _roughness(images)
    direction, size = residual, dot(residual, residual)
    for _ in range(steps):
        curvature = unknown * _roughness(direction)
        step = size / dot(direction, curvature).clamp_min(_TINY)
        images, residual = images + step * direction, residual - step * curvature
        before, size = size, dot(residual, residual)
        direction = residual + size / before.clamp_min(_TINY) * direction
    return images


def _roughness(images: Tensor) -> Tensor:
    """Return the gradient of half the sum of squared Laplacians and weighted squared gradients."""
    laplacian = _laplacian(images)
    return _laplacian(laplacian) - TENSION * laplacian


def _laplacian(images: Tensor) -> Tensor:
    """Return the sum of the differences to the four neighbours; the border is repeated."""
    around = pad(images, (1, 1, 1, 1), mode="replicate")
    sides = around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
    return sides - 4 * images


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of each image (B, C, H, W) with another, (B, 1, 1, 1)."""
    return (first * second).sum(dim=(1, 2, 3), keepdim=True)
