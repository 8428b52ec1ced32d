"""RCAN: residual groups of blocks with channel attention.

Paper: Zhang et al., Image Super-Resolution Using Very Deep Residual Channel Attention Networks, ECCV 2018,
https://arxiv.org/abs/1807.02758
Departure from the paper: pixels lie in [-1, 1], and the mean of the training images is not subtracted.
Shapes: B batch, C channels, F features, H and W height and width in pixels, S scale.
"""

from torch import Tensor, nn

from aigc_restore.networks.upsampling import sub_pixel


class ChannelAttention(nn.Module):
    """Weights each feature map of (B, F, H, W) by a function of the means of all (equations 5 and 6)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        output: Tensor = features * self.layers(features)
        return output


class AttentionBlock(nn.Module):
    """Two convolutions and channel attention, added to the input (B, F, H, W)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            ChannelAttention(width, reduction),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        output: Tensor = features + self.layers(features)
        return output


class ResidualGroup(nn.Module):
    """Blocks and a convolution, added to the input (B, F, H, W)."""

    def __init__(self, width: int, num_blocks: int, reduction: int) -> None:
        super().__init__()
        blocks = [AttentionBlock(width, reduction) for _ in range(num_blocks)]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(width, width, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        output: Tensor = features + self.layers(features)
        return output


class RCAN(nn.Module):
    """Maps images (B, C, H, W) to (B, C, S H, S W).

    Args:
        channels: C.
        scale: S: 2, 3, 4 or 8.
        width: F.
        num_groups: residual groups.
        num_blocks: blocks of a group.
        reduction: F divided by the hidden features of channel attention.

    Attributes:
        reach: None: attention depends on the whole image.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int = 64,
        num_groups: int = 10,
        num_blocks: int = 20,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        groups = [ResidualGroup(width, num_blocks, reduction) for _ in range(num_groups)]
        self.body = nn.Sequential(*groups, nn.Conv2d(width, width, 3, padding=1))
        self.upsampling = sub_pixel(width, scale)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        self.reach = None

    def forward(self, images: Tensor) -> Tensor:
        """Return enlarged images, unclipped."""
        features = self.head(images)
        output: Tensor = self.last(self.upsampling(features + self.body(features)))
        return output
