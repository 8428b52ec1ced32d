"""Fast Fourier convolutions, with which every pixel sees the whole image from the first layer on.

Papers: Suvorov et al., LaMa: Resolution-robust Large Mask Inpainting with Fourier Convolutions, WACV 2022,
https://arxiv.org/abs/2109.07161; Chi, Jiang, Mu, Fast Fourier Convolution, NeurIPS 2020
Departures from the papers: group norm; leaky ReLU; Fourier convolutions only between the halvings and doublings of the
size; skip connections; no local Fourier units.
Shapes: B batch, C channels, F features, H and W height and width in pixels.
"""

import math

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from aigc_lightning.networks.norms import make_norm
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

_GLOBAL_SHARE = 0.75  # of the features that are transformed


class SpectralTransform(nn.Module):
    """A 1x1 convolution of the spectrum of features (B, F, H, W), between two of the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(width // 2, 1)
        self.first, self.last = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)
        self.spectral = nn.Conv2d(2 * inner, 2 * inner, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        inner = _activated(self.first(features))
        output: Tensor = self.last(inner + self._transformed(inner).to(inner.dtype))
        return output

    def _transformed(self, features: Tensor) -> Tensor:
        with without_autocast(features.device):  # there is no Fourier transform in half precision
            # Runtimes of ONNX have no inverse of a real transform: exported programs have matrices instead.
            forward, back = (
                (_by_matrices, _back_by_matrices) if torch.compiler.is_exporting() else (_by_fft, _back_by_fft)
            )
            stacked = _activated(self.spectral(forward(features.float()).to(self.spectral.weight)))
            return back(stacked.float(), features)


class FourierConvolution(nn.Module):
    """Local and global features (B, F, H, W), in one tensor, which influence each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_global = int(width * _GLOBAL_SHARE)
        self.num_local = width - self.num_global
        self.from_local = nn.Conv2d(self.num_local, width, 3, padding=1)
        self.to_local = nn.Conv2d(self.num_global, self.num_local, 3, padding=1)
        self.spectral = SpectralTransform(self.num_global)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        local, distant = features.split([self.num_local, self.num_global], dim=1)
        both = self.from_local(local)
        output: Tensor = both + torch.cat([self.to_local(distant), self.spectral(distant)], dim=1)
        return output


class FourierBlock(nn.Module):
    """Two Fourier convolutions, added to the input (B, F, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            FourierConvolution(width),
            make_norm("group", width),
            nn.ReLU(),
            FourierConvolution(width),
            make_norm("group", width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        output: Tensor = features + self.layers(features)
        return output


class FourierNetwork(nn.Module):
    """Maps images (B, C, H, W) and masks (B, 1, H, W) to images; sides are multiples of `multiple`.

    Args:
        channels: C.
        width: F at full size; doubled at each of two halvings.
        num_blocks: Fourier blocks at a quarter of the size.
    """

    multiple = 4

    def __init__(self, channels: int, width: int = 24, num_blocks: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels + 1, width, 5, padding=2)
        self.down_1 = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.down_2 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1)
        self.middle = nn.Sequential(*(FourierBlock(4 * width) for _ in range(num_blocks)))
        self.up_1 = nn.Conv2d(6 * width, 2 * width, 3, padding=1)
        self.up_2 = nn.Conv2d(3 * width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images (B, C, H, W), unclipped."""
        full = _activated(self.head(torch.cat([images, masks], dim=1)))
        half = _activated(self.down_1(full))
        features = self.middle(_activated(self.down_2(half)))
        features = _activated(self.up_1(torch.cat([_doubled(features), half], dim=1)))
        features = _activated(self.up_2(torch.cat([_doubled(features), full], dim=1)))
        output: Tensor = self.last(features)
        return output


def _by_fft(features: Tensor) -> Tensor:
    """Return the spectrum of features (B, F, H, W): real and imaginary parts, (B, 2F, H, W // 2 + 1)."""
    spectrum = torch.fft.rfft2(features, norm="ortho")
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def _back_by_fft(spectrum: Tensor, like: Tensor) -> Tensor:
    """Return the features, of the shape of others, that have a spectrum (B, 2F, H, W // 2 + 1)."""
    real, imaginary = spectrum.chunk(2, dim=1)
    output: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=like.shape[-2:], norm="ortho")
    return output


def _by_matrices(features: Tensor) -> Tensor:
    """Return what `_by_fft` does, by matrices whose sizes may be symbols."""
    rows, row_sines = _waves(features.shape[-2])
    columns, column_sines = _waves(features.shape[-1], half=True)
    real, imaginary = features @ columns.mT, -(features @ column_sines.mT)
    return torch.cat([rows @ real + row_sines @ imaginary, rows @ imaginary - row_sines @ real], dim=1)


def _back_by_matrices(spectrum: Tensor, like: Tensor) -> Tensor:
    """Return what `_back_by_fft` does, by matrices whose sizes may be symbols."""
    rows, row_sines = _waves(like.shape[-2])
    columns, column_sines = _waves(like.shape[-1], half=True)
    real, imaginary = spectrum.chunk(2, dim=1)
    real, imaginary = rows @ real - row_sines @ imaginary, row_sines @ real + rows @ imaginary
    place = torch.arange(like.shape[-1] // 2 + 1)
    counts = torch.where((place == 0) | (2 * place == _number(like.shape[-1])), 1.0, 2.0)  # how often it occurs
    return (counts * real) @ columns - (counts * imaginary) @ column_sines


def _waves(size: int, half: bool = False) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of frequencies at places, (size, size) or (size // 2 + 1, size), of length 1."""
    places = torch.arange(size)
    frequencies = torch.arange(size // 2 + 1) if half else places
    number = _number(size)
    angles = 2 * math.pi * (frequencies[:, None] * places % number).float() / number
    scale = number.float().rsqrt()
    return scale * angles.cos(), scale * angles.sin()


def _number(size: int) -> Tensor:
    """Return a size as a tensor, with which exported programs can compute where it is a symbol."""
    return torch.ones(size, dtype=torch.int64).sum()


def _activated(features: Tensor) -> Tensor:
    # Not ReLU: the error around holes, where the correction should be 0, would silence the last layers for good.
    return leaky_relu(features, 0.2)


def _doubled(features: Tensor) -> Tensor:
    return interpolate(features, scale_factor=2, mode="nearest")
