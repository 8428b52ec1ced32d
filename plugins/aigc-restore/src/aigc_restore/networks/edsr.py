"""EDSR: residual blocks without normalization.

Paper: Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution, CVPRW 2017,
https://arxiv.org/abs/1707.02921
Departure from the paper: pixels lie in [-1, 1], and the mean of the training images is not subtracted.
Shapes: B batch, C channels, F features, H and W height and width in pixels, S scale.
"""

from math import ceil

import torch
from torch import Tensor, nn

from aigc_restore.networks.upsampling import sub_pixel, sub_pixel_reach


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input (B, F, H, W) after scaling.

    Args:
        width: F.
        residual_scale: factor of the block's output, which stabilizes wide networks (section 3.3).
    """

    def __init__(self, width: int, residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return torch.add(features, self.layers(features), alpha=self.residual_scale)


class EDSR(nn.Module):
    """Maps images (B, C, H, W) to (B, C, S H, S W).

    The baseline has 64 features and 16 blocks; the full network 256, 32 and a residual scale of 0.1.

    Args:
        channels: C.
        scale: S: 2, 3, 4 or 8.
        width: F.
        num_blocks: residual blocks.
        residual_scale: see `ResidualBlock`.
        steady: whether even areas of an image stay even, without the pattern that sub-pixel convolutions can draw when
            they are trained against a discriminator; the parameters are the same.

    Attributes:
        reach: number of input pixels in each direction on which an output pixel depends.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int = 64,
        num_blocks: int = 16,
        residual_scale: float = 1.0,
        steady: bool = False,
    ) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        blocks = [ResidualBlock(width, residual_scale) for _ in range(num_blocks)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(width, width, 3, padding=1))
        self.upsampling = sub_pixel(width, scale, steady)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        self.reach = ceil(1 + 2 * num_blocks + 1 + sub_pixel_reach(scale) + 1 / scale)

    def forward(self, images: Tensor) -> Tensor:
        """Return enlarged images, unclipped."""
        features = self.head(images)
        output: Tensor = self.last(self.upsampling(features + self.body(features)))
        return output
