"""Filters against noise.

Papers: Buades, Coll, Morel, A Non-Local Algorithm for Image Denoising, CVPR 2005 (non-local means); Tomasi, Manduchi,
Bilateral Filtering for Gray and Color Images, ICCV 1998; Immerkaer, Fast Noise Variance Estimation, CVIU 1996.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import math
from itertools import product

import numpy as np
import torch
from aigc_lightning.errors import UserError
from torch import Tensor
from torch.nn.functional import pad

from aigc_restore.editors.base import Classical, Pixels

_PATCH, _DISTANCE = 5, 6  # of non-local means, pixels


class NonLocalMeans(Classical):
    """Non-local means: averages pixels whose surroundings look alike."""

    reach = math.inf  # the noise is estimated from the whole image

    def edit(self, images: Tensor, *, std: float = 0.0, strength: float = 0.6) -> Tensor:
        """Return denoised images (B, C, H, W) in [-1, 1].

        Args:
            images: of any size.
            std: standard deviation of the noise, on a scale of 0 to 255; 0 estimates it from each image.
            strength: decay of the weights, in standard deviations.
        """
        from skimage.restoration import denoise_nl_means

        _check(std=std, strength=strength)

        def filtered(pixels: Pixels) -> Pixels:
            sigma = std / 255 if std else noise_std(pixels)
            if sigma == 0:
                return pixels
            options = {"patch_size": _PATCH, "patch_distance": _DISTANCE, "fast_mode": True, "channel_axis": -1}
            return np.asarray(denoise_nl_means(pixels, h=strength * sigma, sigma=sigma, **options))

        return self.each(images, filtered)


class Median(Classical):
    """Median of the pixels around each pixel, in each channel."""

    reach = 15

    def edit(self, images: Tensor, *, size: int = 3) -> Tensor:
        """Return filtered images (B, C, H, W) in [-1, 1].

        Args:
            images: of any size.
            size: height and width of the window in pixels, odd, up to 31.
        """
        from scipy.ndimage import median_filter

        if size % 2 == 0 or not 1 <= size <= 2 * self.reach + 1:
            raise UserError(f"--size is {size}.", f"Give an odd number from 1 to {2 * self.reach + 1}.")
        return self.each(images, lambda pixels: np.asarray(median_filter(pixels, (size, size, 1), mode="reflect")))


class Bilateral(Classical):
    """Bilateral filter: averages neighbouring pixels of similar colours."""

    reach = 30

    def edit(self, images: Tensor, *, std_space: float = 2.0, std_color: float = 40.0) -> Tensor:
        """Return filtered images (B, C, H, W) in [-1, 1].

        Args:
            images: of any size.
            std_space: standard deviation of the weights by distance, in pixels, up to 10.
            std_color: that of the weights by colour difference, on a scale of 0 to 255.
        """
        _check(std_space=std_space, std_color=std_color)
        radius = math.ceil(3 * std_space)
        if not 1 <= radius <= self.reach or std_color == 0:
            raise UserError(
                f"--std_space is {std_space:g} and --std_color {std_color:g}.", "Give numbers above 0, up to 10 pixels."
            )
        images = images.to(self.device)
        height, width = images.shape[-2:]
        padded = pad(images, [radius] * 4, "reflect" if radius < min(height, width) else "replicate")
        total, weights = torch.zeros_like(images), torch.zeros_like(images[:, :1])
        for y, x in product(range(2 * radius + 1), repeat=2):
            shifted = padded[..., y : y + height, x : x + width]
            distance = (shifted - images).square().sum(dim=1, keepdim=True) / (std_color / 127.5) ** 2
            weight = torch.exp(-0.5 * (distance + ((y - radius) ** 2 + (x - radius) ** 2) / std_space**2))
            total, weights = total + weight * shifted, weights + weight
        return (total / weights).clamp(-1, 1)


def noise_std(pixels: Pixels) -> float:
    """Return Immerkaer's estimate of the standard deviation of the noise of pixels (H, W, C), 0 for tiny images."""
    height, width = pixels.shape[:2]
    if min(height, width) < 3:
        return 0.0
    rows = pixels[:-2] - 2 * pixels[1:-1] + pixels[2:]
    response = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]  # a linear image gives 0
    return float(math.sqrt(math.pi / 2) * np.abs(response).mean() / 6)


def _check(**values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise UserError(f"--{name} is {value:g}.", "Give 0 or more.")
