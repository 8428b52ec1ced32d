"""Gated convolutions, which learn for each pixel and feature how much of it to let through.

Paper: Yu et al., Free-Form Image Inpainting with Gated Convolution, ICCV 2019, https://arxiv.org/abs/1806.03589
Departures from the paper: the first of its two stages alone, with skip connections and without contextual attention.
Shapes: B batch, C channels, F features, H and W height and width in pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate

_DILATIONS = (2, 4, 8, 16)


class GatedConvolution(nn.Module):
    """A convolution times the sigmoid of another (equation 3), of features (B, F, H, W)."""

    def __init__(self, before: int, after: int, size: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, 2 * after, size, stride, dilation * (size // 2), dilation)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, F, h, w)."""
        values, gates = self.convolution(features).chunk(2, dim=1)
        output: Tensor = elu(values) * gates.sigmoid()
        return output


class GatedNetwork(nn.Module):
    """Maps images (B, C, H, W) and masks (B, 1, H, W) to images; sides are multiples of `multiple`.

    Args:
        channels: C.
        width: F at full size; doubled at each of two halvings.
        num_blocks: gated convolutions at a quarter of the size, besides four dilated ones.
    """

    multiple = 4

    def __init__(self, channels: int, width: int = 24, num_blocks: int = 2) -> None:
        super().__init__()
        self.head = GatedConvolution(channels + 1, width, 5)
        self.down_1 = nn.Sequential(
            GatedConvolution(width, 2 * width, stride=2), GatedConvolution(2 * width, 2 * width)
        )
        self.down_2 = GatedConvolution(2 * width, 4 * width, stride=2)
        plain = [GatedConvolution(4 * width, 4 * width) for _ in range(num_blocks)]
        dilated = [GatedConvolution(4 * width, 4 * width, dilation=dilation) for dilation in _DILATIONS]
        self.middle = nn.ModuleList([*plain, *dilated])
        self.up_1 = GatedConvolution(6 * width, 2 * width)
        self.up_2 = GatedConvolution(3 * width, width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images (B, C, H, W), unclipped."""
        full = self.head(torch.cat([images, masks], dim=1))
        half = self.down_1(full)
        features = self.down_2(half)
        for layer in self.middle:
            features = features + layer(features)
        features = self.up_1(torch.cat([_doubled(features), half], dim=1))
        features = self.up_2(torch.cat([_doubled(features), full], dim=1))
        output: Tensor = self.last(features)
        return output


def _doubled(features: Tensor) -> Tensor:
    return interpolate(features, scale_factor=2, mode="nearest")
