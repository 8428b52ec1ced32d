"""Filling holes from what surrounds them.

Papers: Damelin, Hoang, On Surface Completion and Image Inpainting by Biharmonic Functions, IJMMS 2018; Telea, An Image
Inpainting Technique Based on the Fast Marching Method, JGT 2004; Bertalmio, Bertozzi, Sapiro, Navier-Stokes, Fluid
Dynamics, and Image and Video Inpainting, CVPR 2001.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_restore.editors.base import Classical, Pixels
from aigc_restore.inpainting.spectral import spectral


class Filling(Classical, ABC):
    """Base class of methods that fill the holes of images; everything else is left as it is."""

    keeps_unmasked = True
    reach = math.inf  # holes of any size

    @abstractmethod
    def filled(self, pixels: Pixels, hole: npt.NDArray[np.bool_]) -> Pixels:
        """Return pixels (H, W, C) in [0, 1] with the hole (H, W) filled."""

    def edit(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] with their holes filled.

        Args:
            images: of any size.
            masks: (B, 1, H, W), 1 in holes and 0 elsewhere.

        Raises:
            UserError: nothing is left of an image.
        """
        holes = masks[:, 0].gt(0.5).cpu().numpy()
        if holes.all(axis=(1, 2)).any():
            raise UserError("The mask covers all of a picture or tile.", "Leave a part of it, or raise --tile.")
        rest = iter(holes)

        def filled(pixels: Pixels) -> Pixels:
            hole = next(rest)
            if not hole.any():
                return pixels
            # What is in a hole must not matter.
            return self.filled(np.where(hole[..., None], 0.0, pixels), hole)

        images = images.to(self.device)
        return torch.where(masks.to(self.device) > 0.5, self.each(images, filled), images.float())


class Biharmonic(Filling):
    """Biharmonic functions, which continue slopes as well as levels."""

    def filled(self, pixels: Pixels, hole: npt.NDArray[np.bool_]) -> Pixels:
        """Return filled pixels; see `Filling.filled`."""
        from skimage.restoration import inpaint_biharmonic

        return np.asarray(inpaint_biharmonic(pixels, hole, channel_axis=-1))


class Spectral(Filling):
    """The mean of a Gaussian process with the picture's own spectrum, which continues edges and stripes."""

    def filled(self, pixels: Pixels, hole: npt.NDArray[np.bool_]) -> Pixels:
        """Return filled pixels; see `Filling.filled`."""
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        masks = torch.from_numpy(hole)[None, None].to(images)
        return np.asarray(spectral(images, masks)[0].permute(1, 2, 0).numpy())


class OpenCV(Filling):
    """Base class of the methods of OpenCV, which compute with 8 bits."""

    flag = ""
    _radius = 3  # pixels around each filled pixel that it depends on

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        try:
            import cv2
        except ImportError as error:
            name = type(self).__name__
            raise UserError(f"{name} needs OpenCV.", 'Run: pip install "aigc-restore[opencv]"') from error
        self._cv2: Any = cv2

    def filled(self, pixels: Pixels, hole: npt.NDArray[np.bool_]) -> Pixels:
        """Return filled pixels; see `Filling.filled`."""
        image = np.ascontiguousarray((pixels * 255).round().astype(np.uint8))
        mask = hole.astype(np.uint8)
        return np.asarray(self._cv2.inpaint(image, mask, self._radius, getattr(self._cv2, self.flag))) / 255


class Telea(OpenCV):
    """Telea's fast marching method: weighted means of what is known, from the border of the hole inwards."""

    flag = "INPAINT_TELEA"


class NavierStokes(OpenCV):
    """Navier-Stokes: continues the lines of equal brightness into the hole."""

    flag = "INPAINT_NS"
