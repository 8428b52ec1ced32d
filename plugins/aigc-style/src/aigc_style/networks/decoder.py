"""The decoder of AdaIN: feature maps of an encoder back to an image.

Papers: Huang, Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017, section
6.1, https://arxiv.org/abs/1703.06868 (no norms, reflection padding, nearest neighbours for upsampling); Sheng et al.,
Avatar-Net, CVPR 2018, https://arxiv.org/abs/1805.03857 (finer maps, stylised as well, join the decoder).
Departures from the papers: the width does not depend on the encoder.
Shapes: B batch, H and W height and width of the image in pixels, F channels of the last layer.
"""

from collections.abc import Sequence

import torch
from aigc_lightning.networks.residual import ReflectingConv2d
from torch import Tensor, nn


class Decoder(nn.Module):
    """Maps feature maps at 1/8 of the size, and perhaps finer ones, to images (B, 3, H, W), not clipped.

    With 512 channels at 1/8, no finer maps and the default width, it is the decoder of AdaIN: 3,505,219 parameters.

    Args:
        features: channels of the maps at 1/8.
        finer: channels of the maps at 1/4 and 1/2; 0 without them.
        width: F.
    """

    def __init__(self, features: int, finer: Sequence[int] = (0, 0), width: int = 64) -> None:
        super().__init__()
        quarter, half = finer
        self.coarse = nn.Sequential(*_convolution(features, 4 * width), _Double())
        self.middle = nn.Sequential(
            *_convolution(4 * width + quarter, 4 * width),
            *_convolution(4 * width, 4 * width),
            *_convolution(4 * width, 4 * width),
            *_convolution(4 * width, 2 * width),
            _Double(),
        )
        self.fine = nn.Sequential(
            *_convolution(2 * width + half, 2 * width),
            *_convolution(2 * width, width),
            _Double(),
            *_convolution(width, width),
            ReflectingConv2d(width, 3, 3),
        )

    def forward(self, features: Tensor, finer: Sequence[Tensor] = ()) -> Tensor:
        """Return images, unclipped.

        Args:
            features: (B, features, H / 8, W / 8).
            finer: maps at 1/4 and 1/2 of the size, if the decoder takes them.
        """
        values: Tensor = self.coarse(features)
        for layers, maps in zip((self.middle, self.fine), finer or (None, None), strict=True):
            values = layers(values if maps is None else torch.cat([values, maps], dim=1))
        return values


class _Double(nn.Upsample):
    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="nearest")


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [ReflectingConv2d(before, after, 3), nn.ReLU(inplace=True)]
