"""Ways in which a copy of an image may differ from it, and in which comparisons look for it.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor

_CROP = 0.85  # share of the height and width that a crop keeps
#: What is done to an image before it is compared.
VARIANTS = (
    "as it is",
    "mirrored",
    "centre crop",
    "top left crop",
    "top right crop",
    "bottom left crop",
    "bottom right crop",
)


def variants(images: Tensor) -> list[Tensor]:
    """Return images, uint8 (C, H, W) or (B, C, H, W), in the ways of `VARIANTS`."""
    height, width = images.shape[-2:]
    rows, columns = max(1, round(_CROP * height)), max(1, round(_CROP * width))
    bottom, right = height - rows, width - columns
    corners = [(bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right)]
    crops = [images[..., top : top + rows, left : left + columns] for top, left in corners]
    return [images, torch.flip(images, (-1,)), *crops]
