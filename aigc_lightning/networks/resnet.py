"""A residual network for small images.

Paper: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385
Departures from the paper: one block per stage, as many stages as the image allows, a 3x3 first layer without pooling,
and shortcuts that average before they project (He et al., CVPR 2019, ResNet-D, https://arxiv.org/abs/1812.01187).
Shapes: B batch, C channels, H and W height and width in pixels, D features.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.networks.norms import make_norm

#: Feature maps are halved while their smaller side is longer than this.
_SMALLEST_SIDE = 4
_MOST_STAGES = 5


def num_stages(height: int, width: int) -> int:
    """Return the number of halvings, 1 to 5, that reduce the smaller side to 3 or 4 pixels if possible."""
    side, number = min(height, width), 0
    while side > _SMALLEST_SIDE and number < _MOST_STAGES:
        side, number = -(-side // 2), number + 1
    return max(number, 1)


class ResNet(nn.Module):
    """Maps images (B, C, H, W) of any size to features (B, D).

    Args:
        channels: C.
        height: H, which together with W determines the number of stages.
        image_width: W.
        width: channels at full size; doubled in each stage, up to 8 times.
        norm: normalisation of the feature maps.
    """

    def __init__(
        self, channels: int, height: int, image_width: int, width: int, norm: Literal["batch", "group"] = "batch"
    ) -> None:
        super().__init__()
        widths = [width * 2 ** min(stage, 3) for stage in range(num_stages(height, image_width) + 1)]
        blocks = [ResidualBlock(before, after, norm) for before, after in pairwise(widths)]
        self.stem = nn.Sequential(_convolution(channels, width), make_norm(norm, width), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*blocks)
        self.num_features = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over the last feature maps, float (B, D)."""
        return self.feature_maps(images)[-1]

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of the stem and of each block, and at the end their mean (B, D)."""
        maps: list[Tensor] = [self.stem(images)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return [*maps, maps[-1].mean(dim=(2, 3))]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that halve the feature maps, beside a shortcut (figure 5, left, and section 3.3, B).

    Args:
        before: input channels.
        after: output channels.
        norm: normalisation of the feature maps.
    """

    def __init__(self, before: int, after: int, norm: Literal["batch", "group"] = "batch") -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(before, after, stride=2),
            make_norm(norm, after),
            nn.ReLU(inplace=True),
            _convolution(after, after),
            make_norm(norm, after),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False), make_norm(norm, after)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return feature maps of half the size, rounded up."""
        return functional.relu(self.residual(features) + self.shortcut(features), inplace=True)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False)
