"""The convolutional encoder and decoder of VQGAN.

Paper: Esser et al., Taming Transformers for High-Resolution Image Synthesis, CVPR 2021,
https://arxiv.org/abs/2012.09841, table 7
Departs from the paper: attention is placed by level instead of by size in pixels, so images may have any size that the
levels divide.
Shapes: B batch, C image channels, H and W height and width in pixels, F features of a level, Z latent channels, h and w
height and width of the latents. Images lie in [-1, 1].
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class Encoder(nn.Module):
    """Images to latents of 1 / 2^(levels - 1) the size.

    Args:
        channels: C.
        latent_channels: Z.
        width: features of the first level.
        multipliers: of the width at each level; five levels make latents of a sixteenth of the size.
        num_blocks: residual blocks of each level.
        attention_levels: levels whose blocks are followed by attention; the first one is 0.
        dropout: probability inside the blocks.
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        num_blocks: int = 2,
        attention_levels: Sequence[int] = (4,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        before = width
        for level, multiplier in enumerate(multipliers):
            if level > 0:
                layers.append(Downsample(before))
            for _ in range(num_blocks):
                layers.append(ResidualBlock(before, width * multiplier, dropout))
                before = width * multiplier
                if level in attention_levels:
                    layers.append(SpatialAttention(before))
        layers += [ResidualBlock(before, before, dropout), SpatialAttention(before)]
        layers += [ResidualBlock(before, before, dropout), group_norm(before), nn.SiLU()]
        layers.append(nn.Conv2d(before, latent_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return latents (B, Z, h, w) of images (B, C, H, W)."""
        latents: Tensor = self.layers(images)
        return latents


class Decoder(nn.Module):
    """Latents to images; the arguments are those of the encoder, and each level has one block more."""

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        num_blocks: int = 2,
        attention_levels: Sequence[int] = (4,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        before = width * multipliers[-1]
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, before, 3, padding=1)]
        layers += [ResidualBlock(before, before, dropout), SpatialAttention(before)]
        layers.append(ResidualBlock(before, before, dropout))
        for level in reversed(range(len(multipliers))):
            for _ in range(num_blocks + 1):
                layers.append(ResidualBlock(before, width * multipliers[level], dropout))
                before = width * multipliers[level]
                if level in attention_levels:
                    layers.append(SpatialAttention(before))
            if level > 0:
                layers.append(Upsample(before))
        layers += [group_norm(before), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Conv2d(before, channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images (B, C, H, W) of latents (B, Z, h, w), not clipped to [-1, 1]."""
        images: Tensor = self.output(self.layers(latents))
        return images


class ResidualBlock(nn.Module):
    """Two convolutions, with a 1x1 convolution around them where the number of features changes."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            group_norm(in_channels),
            nn.SiLU(),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            group_norm(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, `out_channels`, H, W)."""
        result: Tensor = self.shortcut(features) + self.layers(features)
        return result


class SpatialAttention(nn.Module):
    """Attention of one head between all places, inside a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F, H, W)."""
        sequence = self.qkv(self.norm(features)).flatten(2).transpose(1, 2)  # (B, HW, 3F)
        queries, keys, values = sequence.unsqueeze(1).chunk(3, dim=-1)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        result: Tensor = features + self.output(attended.squeeze(1).transpose(1, 2).view_as(features))
        return result


class Downsample(nn.Module):
    """A convolution with a stride of 2 over windows that begin at even pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F, H / 2, W / 2)."""
        result: Tensor = self.convolution(functional.pad(features, (0, 1, 0, 1)))
        return result


class Upsample(nn.Module):
    """Repeated pixels, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F, 2H, 2W)."""
        result: Tensor = self.convolution(functional.interpolate(features, scale_factor=2.0, mode="nearest"))
        return result


def group_norm(channels: int) -> nn.GroupNorm:
    """Return the paper's normalisation, in 32 groups or as many of them as divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-6)
