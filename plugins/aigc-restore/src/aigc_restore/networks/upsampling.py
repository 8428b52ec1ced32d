"""Layers that enlarge feature maps.

Papers: Shi et al., ESPCN, CVPR 2016, https://arxiv.org/abs/1609.05158 (sub-pixel convolution); Sugawara, Shiota, Kiya,
Super-Resolution Using Convolutional Neural Networks Without Any Checkerboard Artifacts, ICIP 2018,
https://arxiv.org/abs/1806.02658 (equal steady-state responses)
Departure from the second paper: the convolution's weights are projected, where the paper adds a layer.
Shapes: B batch, F features, H and W height and width in pixels, S scale.
"""

from torch import Tensor, nn
from torch.nn.functional import conv2d

#: The factors that a network enlarges by, one after the other, for each supported scale.
FACTORS: dict[int, tuple[int, ...]] = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class SteadyConv2d(nn.Conv2d):
    """A convolution before pixel shuffling whose result is even wherever its input is.

    The channels that become neighbouring pixels have filters of their own; if these differ in their sums, even areas
    get a pattern as wide as a pixel of the input. Here their sums and biases are replaced by their means. The
    parameters are those of a convolution, so that it takes the weights of one.

    Args:
        width: channels of the input and of the shuffled result.
        factor: by which pixel shuffling enlarges.
    """

    def __init__(self, width: int, factor: int) -> None:
        super().__init__(width, width * factor**2, 3, padding=1)
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, factor^2 F, H, W)."""
        assert self.bias is not None
        weight = self.weight.unflatten(0, (-1, self.factor**2))
        means = weight.mean(dim=(3, 4), keepdim=True)
        bias = self.bias.unflatten(0, (-1, self.factor**2))
        steady = (weight - means + means.mean(dim=1, keepdim=True)).flatten(0, 1)
        return conv2d(features, steady, bias.mean(dim=1, keepdim=True).expand_as(bias).flatten(), padding=1)


def sub_pixel(width: int, scale: int, steady: bool = False) -> nn.Sequential:
    """Return layers that map (B, F, H, W) to (B, F, S H, S W) by convolutions and pixel shuffling.

    Args:
        width: F.
        scale: S, a key of `FACTORS`.
        steady: whether even areas stay even (`SteadyConv2d`).
    """
    layers: list[nn.Module] = []
    for factor in FACTORS[scale]:
        layers.append(SteadyConv2d(width, factor) if steady else nn.Conv2d(width, width * factor**2, 3, padding=1))
        layers.append(nn.PixelShuffle(factor))
    return nn.Sequential(*layers)


def sub_pixel_reach(scale: int) -> float:
    """Return how many pixels of its input an output pixel of `sub_pixel` depends on, in each direction."""
    reach, size = 0.0, 1
    for factor in FACTORS[scale]:
        reach += 1 / size
        size *= factor
    return reach
