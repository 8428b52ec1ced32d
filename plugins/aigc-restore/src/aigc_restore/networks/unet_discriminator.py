"""The U-Net discriminator of Real-ESRGAN: a logit for each pixel, from features of several sizes.

Paper: Wang et al., Real-ESRGAN, ICCVW 2021, https://arxiv.org/abs/2107.10833, section 3.3
Shapes: B batch, C channels, F channels of the first layer, H and W height and width in pixels.
"""

from aigc_lightning.networks.spectral_norm import spectral_norm
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

_LEVELS = 3  # times that the U-Net halves its feature maps
_SLOPE = 0.2


class UNetDiscriminator(nn.Module):
    """Maps images (B, C, H, W) to logits (B, 1, H, W), above 0 where they look real; sides are multiples of 8.

    All layers but the first and the last have spectral norm.

    Args:
        channels: C.
        width: F; doubled at each halving.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width << level for level in range(_LEVELS + 1)]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(_layer(a, b, 4, 2) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(_layer(b, a, 3) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.end = nn.Sequential(
            _layer(width, width, 3), nn.LeakyReLU(_SLOPE), _layer(width, width, 3), nn.LeakyReLU(_SLOPE)
        )
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 1, H, W)."""
        features = leaky_relu(self.first(images), _SLOPE)
        seen = [features]
        for layer in self.down:
            features = leaky_relu(layer(features), _SLOPE)
            seen.append(features)
        for layer, before in zip(self.up, reversed(seen[:-1]), strict=True):
            larger = interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = leaky_relu(layer(larger), _SLOPE) + before
        logits: Tensor = self.last(self.end(features))
        return logits


def _layer(before: int, after: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, size, stride, 1, bias=False))
