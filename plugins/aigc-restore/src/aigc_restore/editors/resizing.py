"""Enlarging by interpolation.

Shapes: B batch, C channels, H and W height and width in pixels, S scale.
"""

import numpy as np
from aigc_lightning.core.resampling import enlarged
from aigc_lightning.errors import UserError
from PIL import Image
from torch import Tensor

from aigc_restore.editors.base import Classical, Pixels

_LARGEST_SCALE = 16


class Bicubic(Classical):
    """Bicubic interpolation, as in MATLAB's imresize."""

    reach = 2

    def edit(self, images: Tensor, *, scale: int = 2) -> Tensor:
        """Return images (B, C, S H, S W) of images (B, C, H, W) in [-1, 1].

        Args:
            images: of any size.
            scale: S, from 1 to 16.
        """
        _check_scale(scale)
        return enlarged(images.to(self.device), scale).clamp(-1, 1)


class Lanczos(Classical):
    """Lanczos interpolation: a sinc with a window of three lobes, as in Pillow."""

    reach = 3

    def edit(self, images: Tensor, *, scale: int = 2) -> Tensor:
        """Return images (B, C, S H, S W) of images (B, C, H, W) in [-1, 1].

        Args:
            images: of any size.
            scale: S, from 1 to 16.
        """
        _check_scale(scale)

        def resized(pixels: Pixels) -> Pixels:
            size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
            planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(pixels, -1, 0)]
            return np.stack([np.asarray(plane.resize(size, Image.Resampling.LANCZOS)) for plane in planes], axis=-1)

        return self.each(images, resized)


def _check_scale(scale: int) -> None:
    if not 1 <= scale <= _LARGEST_SCALE:
        raise UserError(f"--scale is {scale}.", f"Give a whole number from 1 to {_LARGEST_SCALE}.")
