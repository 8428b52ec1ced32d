"""Encoder and decoder of a variational autoencoder for images of a fixed size.

Shapes: B batch, C channels, H and W height and width in pixels, Z latent size, D decoder channels, N number of
halvings, h = ceil(H / 2^N) and w = ceil(W / 2^N) size of the smallest feature maps, F channels at half the image size.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from aigc_lightning.networks.image_convolutions import ImageConvTranspose2d
from aigc_lightning.networks.residual import PreactivationBlock, crop, pad_to_multiple


def num_halvings(height: int, width: int) -> int:
    """Return N: the fewest halvings after which the shorter side has at most 4 pixels."""
    return max(0, math.ceil(math.log2(min(height, width) / 4)))


def _widths(width: int, number: int) -> list[int]:
    """Return the channels at 1/2, 1/4, ... of the image size: doubled at each downsampling step, up to 8 x width."""
    return [width * min(2**level, 8) for level in range(number)] or [width]


class VAEEncoder(nn.Module):
    """Maps images (B, C, H, W) to the means and log variances of their latents, (B, Z) each.

    Args:
        shape: (C, H, W).
        width: F.
        latent_size: Z.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, latent_size: int) -> None:
        super().__init__()
        channels, height, image_width = shape
        number = num_halvings(height, image_width)
        widths = _widths(width, number)
        self.multiple = 2**number
        layers: list[nn.Module] = [_halving(channels, width) if number else nn.Conv2d(channels, width, 3, padding=1)]
        for before, after in pairwise(widths):
            layers += [PreactivationBlock(before), _halving(before, after)]
        layers += [PreactivationBlock(widths[-1]), nn.ReLU(inplace=True), nn.Flatten()]
        size = math.ceil(height / self.multiple) * math.ceil(image_width / self.multiple)
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1] * size, 2 * latent_size))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log variances, (B, Z) each."""
        means, log_variances = self.layers(pad_to_multiple(images, self.multiple)).chunk(2, dim=1)
        return means.clone(), log_variances.clone()  # FSDP warns of views, which must not be changed in place


class GaussianHead(nn.Module):
    """Maps a decoder's output to means in [-1, 1], and appends log scales.

    A scale is the same for all pixels of a channel.

    Args:
        channels: C.
        scale: fixed standard deviation; None to learn it, starting at about 1/4.
    """

    #: Half a grey level of images in [-1, 1]: without a lower bound on learned scales, the density is unbounded.
    smallest = 1 / 255

    def __init__(self, channels: int, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.excess = nn.Parameter(torch.full((channels, 1, 1), math.log(1 / 4))) if scale is None else None

    def forward(self, outputs: Tensor) -> Tensor:
        """Return means and log scales, (B, 2C, H, W), for outputs (B, C, H, W)."""
        means = outputs.tanh()
        if self.excess is None:
            assert self.scale is not None
            return torch.cat([means, torch.full_like(means, math.log(self.scale))], dim=1)
        return torch.cat([means, torch.log(self.smallest + self.excess.exp()).expand_as(means)], dim=1)


class MixtureHead(nn.Module):
    """Offsets a decoder's output so that the K components of a mixture start with different means and moderate scales.

    Components with the same initial values get the same gradients and stay the same.

    Args:
        num_components: K.
        channels: C.
    """

    def __init__(self, num_components: int, channels: int) -> None:
        super().__init__()
        means = torch.linspace(-1, 1, num_components).repeat_interleave(channels)
        start = torch.cat([torch.zeros(num_components), means, torch.full_like(means, -1.0)])
        self.start = nn.Parameter(start.view(-1, 1, 1))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return logits, means and log scales, (B, K + 2KC, H, W), for outputs of the same shape."""
        return outputs + self.start


class VAEDecoder(nn.Module):
    """Maps latents (B, Z) to the parameters of a likelihood for each pixel, (B, D, H, W).

    Args:
        latent_size: Z.
        shape: (C, H, W).
        width: F.
        num_channels: D.
    """

    def __init__(self, latent_size: int, shape: tuple[int, int, int], width: int, num_channels: int) -> None:
        super().__init__()
        _, self.height, self.width = shape
        number = num_halvings(self.height, self.width)
        widths = _widths(width, number)[::-1]
        size = (math.ceil(self.height / 2**number), math.ceil(self.width / 2**number))
        layers: list[nn.Module] = [nn.Linear(latent_size, widths[0] * size[0] * size[1])]
        layers += [nn.Unflatten(1, (widths[0], *size)), PreactivationBlock(widths[0])]
        for before, after in pairwise(widths):
            layers += [_doubling(before, after), PreactivationBlock(after)]
        layers += [nn.ReLU(inplace=True)]
        layers += [_doubling(width, num_channels) if number else nn.Conv2d(width, num_channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Return (B, D, H, W) for latents (B, Z)."""
        return crop(self.layers(latents), self.height, self.width)


def _halving(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, 4, 2, 1)


def _doubling(before: int, after: int) -> nn.Module:
    return ImageConvTranspose2d(before, after, 4, 2, 1)
