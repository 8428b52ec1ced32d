"""Random views of images, for losses that compare views, computed on the images' device.

Source: Chen et al., SimCLR, ICML 2020, section 2.1 and appendix A (crops, flips, colours),
https://arxiv.org/abs/2002.05709.
Departures from the source: crops keep the aspect ratio; rotation and shear for drawn characters; no blur.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core.engine.augmentation import color
from aigc_lightning.errors import UserError

#: Random numbers that a view takes per image.
NUM_DRAWS = 9


@dataclass(frozen=True)
class Views:
    """How much the random views of an image differ from it.

    Args:
        crop: smallest share of the height and width that a view shows, above 0; 1 for the whole image.
        rotate: largest rotation in degrees, to either side.
        shear: largest angle in degrees by which vertical lines are slanted, to either side, below 90.
        flip: mirror a random half of the views left to right.
        color: strength of changes of brightness, contrast and saturation, from 0 to 1.

    Raises:
        UserError: a number is out of range.
    """

    crop: float = 0.8
    rotate: float = 0.0
    shear: float = 0.0
    flip: bool = False
    color: float = 0.0

    def __post_init__(self) -> None:
        ranges = {"crop": 0 < self.crop <= 1, "rotate": 0 <= self.rotate <= 180, "shear": 0 <= self.shear < 90}
        for name, fits in {**ranges, "color": 0 <= self.color <= 1}.items():
            if not fits:
                raise UserError(f"model.views.{name} is {getattr(self, name)}.", "See: aigc plugins show metric")


def view(images: Tensor, draws: Tensor, settings: Views) -> Tensor:
    """Return a random view of each image, (B, C, H, W) in [-1, 1]; outside of an image its border is repeated.

    Args:
        images: (B, C, H, W) in [-1, 1].
        draws: (B, `NUM_DRAWS`) in [0, 1).
        settings: how much views differ.
    """
    draws = draws.to(images)
    angle, slant = (
        (2 * draws[:, place] - 1) * math.radians(most) for place, most in enumerate((settings.rotate, settings.shear))
    )
    size = settings.crop + (1 - settings.crop) * draws[:, 2]
    mirror = 1 - 2 * (draws[:, 3] < 0.5).to(images) if settings.flip else torch.ones_like(size)
    right, down = ((1 - size) * (2 * draws[:, place] - 1) for place in (4, 5))
    ratio = images.shape[-1] / images.shape[-2]  # coordinates run from -1 to 1 on both axes
    cosine, sine, slope = angle.cos(), angle.sin(), slant.tan()
    rows = [
        [size * mirror * cosine, size * (cosine * slope - sine) / ratio, right],
        [size * mirror * sine * ratio, size * (sine * slope + cosine), down],
    ]
    matrices = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    places = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    changed = functional.grid_sample(images, places, padding_mode="border", align_corners=False)
    if settings.color:
        changed = color(changed, 0.5 + settings.color * (draws[:, 6:9] - 0.5)).clamp(-1, 1)
    return changed
