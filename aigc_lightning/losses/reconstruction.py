"""Reconstruction errors, one value per image.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from torch import Tensor


def absolute(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of each image, (B,), of images (B, C, H, W)."""
    return (images - targets).abs().flatten(1).mean(1)


def squared(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each image, (B,), of images (B, C, H, W)."""
    return (images - targets).square().flatten(1).mean(1)


def charbonnier(images: Tensor, targets: Tensor, scale: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(error^2 + scale^2) of each image, (B,): the absolute error, smooth at zero.

    Source: Charbonnier et al., ICIP 1994; as a loss of restoration in Lai et al., CVPR 2017, equation 2.

    Args:
        images: (B, C, H, W).
        targets: (B, C, H, W).
        scale: error at which the loss changes from quadratic to linear.
    """
    return ((images - targets).square() + scale**2).sqrt().flatten(1).mean(1)
