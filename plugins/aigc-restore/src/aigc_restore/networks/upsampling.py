"""Layers that enlarge feature maps.

Paper: Shi et al., ESPCN, CVPR 2016, https://arxiv.org/abs/1609.05158 (sub-pixel convolution)
Shapes: B batch, F features, H and W height and width in pixels, S scale.
"""

from torch import nn

#: The factors that a network enlarges by, one after the other, for each supported scale.
FACTORS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


def sub_pixel(width: int, scale: int) -> nn.Sequential:
    """Return layers that map (B, F, H, W) to (B, F, S H, S W) by convolutions and pixel shuffling.

    Args:
        width: F.
        scale: S, a key of `FACTORS`.
    """
    layers: list[nn.Module] = []
    for factor in FACTORS[scale]:
        layers += [nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


def sub_pixel_reach(scale: int) -> float:
    """Return how many pixels of its input an output pixel of `sub_pixel` depends on, in each direction."""
    reach, size = 0.0, 1
    for factor in FACTORS[scale]:
        reach += 1 / size
        size *= factor
    return reach
