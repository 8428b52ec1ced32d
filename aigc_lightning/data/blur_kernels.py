"""Blur kernels: Gaussian, generalized Gaussian, plateau-shaped and sinc.

Paper: Wang et al., Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, ICCVW 2021,
https://arxiv.org/abs/2107.10833 (sections 3.2 and 3.4)
Shapes: K side of a kernel in pixels, odd; C channels, H and W height and width in pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_kernel(size: int, sigma_x: float, sigma_y: float, angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """Return a Gaussian kernel, float32 (K, K) with sum 1; generalized if beta is not 1.

    Args:
        size: K.
        sigma_x: standard deviation along the first axis of the ellipse, in pixels.
        sigma_y: that along the second.
        angle: from the x axis of the image to the first axis of the ellipse, in radians.
        beta: shape: below 1 with heavier tails, above 1 flatter in the middle.
    """
    return _scaled(torch.exp(-0.5 * _distances(size, sigma_x, sigma_y, angle) ** beta))


def plateau_kernel(size: int, sigma_x: float, sigma_y: float, angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """Return a plateau-shaped kernel, float32 (K, K) with sum 1; for the arguments see `gaussian_kernel`."""
    return _scaled(1 / (1 + _distances(size, sigma_x, sigma_y, angle) ** beta))


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """Return the kernel of an ideal circular low-pass filter, float32 (K, K) with sum 1, which rings at edges.

    Args:
        size: K.
        cutoff: frequency above which nothing passes, in radians per pixel, up to pi.
    """
    radii = _offsets(size).square().sum(dim=2).sqrt()
    middle = size // 2
    radii[middle, middle] = 1  # the limit is set below
    kernel = cutoff * torch.special.bessel_j1(cutoff * radii) / (2 * math.pi * radii)
    kernel[middle, middle] = cutoff**2 / (4 * math.pi)
    return _scaled(kernel)


def filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """Return an image (C, H, W) convolved with a symmetric kernel (K, K), with reflected borders.

    A kernel that reaches further than the image is cropped and scaled to its former sum.
    """
    excess = kernel.shape[0] // 2 - (min(image.shape[1:]) - 1)
    if excess > 0:
        cropped = kernel[excess:-excess, excess:-excess]
        kernel = cropped * (kernel.sum() / cropped.sum())
    reach = kernel.shape[0] // 2
    padded = functional.pad(image[:, None], [reach] * 4, mode="reflect")
    return functional.conv2d(padded, kernel[None, None])[:, 0]


def _offsets(size: int) -> Tensor:
    """Return the offsets from the middle, x to the right and y down, float64 (K, K, 2)."""
    places = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([x, y], dim=2)


def _distances(size: int, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """Return squared distances from the middle in standard deviations, (K, K)."""
    offsets, (cos, sin) = _offsets(size), (math.cos(angle), math.sin(angle))
    along = (offsets[..., 0] * cos + offsets[..., 1] * sin) / sigma_x
    across = (offsets[..., 1] * cos - offsets[..., 0] * sin) / sigma_y
    return along.square() + across.square()


def _scaled(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
