"""A judge of style transfer that has learnt nothing: a bank of Gabor filters.

An optimised image has a small loss in the network that it was optimised with, however it looks. So results are judged
by features that no method here uses: the energies of wavelets at several scales and orientations in luma and two
differences of colours. Their products describe textures (Portilla, Simoncelli, A Parametric Texture Model Based on
Joint Statistics of Complex Wavelet Coefficients, IJCV 2000), and where they are large is where a picture has its edges.
It sees strokes, textures, contrasts and outlines; it knows nothing of objects, faces or of what looks good.
Shapes: B batch, H and W height and width in pixels, M = 12 maps of a scale (3 channels by 4 orientations).
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from aigc_style.statistics import gram, resized

_WAVELENGTH, _SIGMA, _RADIUS = 4.0, 2.0, 6  # pixels, at the finest scale
_ORIENTATIONS = 4
_SCALES = 5  # wavelengths of 4, 8, 16, 32 and 64 pixels
_SMALLEST = 4 * _RADIUS  # pixels of the shorter side, below which there is no further scale
#: Luma, and the differences red - green and yellow - blue.
_COLORS = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))


class Scores(NamedTuple):
    """How an image compares with a style and with a photograph.

    Args:
        style: squared error of the Gram matrices relative to the style's, a mean over scales; 0 for the style itself.
        content: 1 - correlation of the luma's energies with the photograph's, a mean over scales and orientations; 0
            for the photograph itself, about 1 for an unrelated picture.
    """

    style: float
    content: float


def energies(images: Tensor) -> list[Tensor]:
    """Return the energies of each scale, (B, M, ...), for images (B, 3, H, W) in [-1, 1]; at most five scales.

    The first four maps are the luma's. A scale has half the resolution of the one before.
    """
    colors = torch.tensor(_COLORS, dtype=images.dtype, device=images.device)
    values = torch.einsum("kc,bchw->bkhw", colors, images)
    found = []
    for _ in range(_SCALES):
        found.append(_filtered(values))
        if min(values.shape[-2:]) < 2 * _SMALLEST:
            break
        values = resized(values, (values.shape[-2] // 2, values.shape[-1] // 2))
    return found


def judge(images: Sequence[Tensor], photo: Tensor, style: Tensor) -> list[Scores]:
    """Return the scores of images, such as the photograph itself, a baseline and results.

    Args:
        images: (1, 3, H, W) each, in [-1, 1].
        photo: (1, 3, H, W).
        style: (1, 3, h, w), brought to the photograph's longer side.
    """
    scale = max(photo.shape[-2:]) / max(style.shape[-2:])
    size = (max(round(scale * style.shape[-2]), 1), max(round(scale * style.shape[-1]), 1))
    of_photo, of_style = energies(photo), [gram(maps) for maps in energies(resized(style, size))]
    return [_scores(energies(image), of_photo, of_style) for image in images]


def _scores(found: Sequence[Tensor], photo: Sequence[Tensor], style: Sequence[Tensor]) -> Scores:
    errors = []
    for maps, wanted in zip(found, style, strict=False):  # a narrow style can have fewer scales
        errors.append((gram(maps) - wanted).square().sum() / wanted.square().sum().clamp_min(1e-12))
    apart = [1 - _correlation(a[:, :_ORIENTATIONS], b[:, :_ORIENTATIONS]) for a, b in zip(found, photo, strict=True)]
    return Scores(torch.stack(errors).mean().item(), torch.stack(apart).mean().item())


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean correlation of maps (B, M, H, W) over their positions."""
    rows = [maps.flatten(2) - maps.flatten(2).mean(dim=2, keepdim=True) for maps in (one, other)]
    return functional.cosine_similarity(rows[0], rows[1], dim=2).mean()


def _filtered(values: Tensor) -> Tensor:
    """Return the energies (B, M, H, W) of maps (B, 3, H, W) at one scale."""
    waves = _waves().to(values)
    padded = functional.pad(values, [_RADIUS] * 4, mode="replicate")
    flat = padded.flatten(0, 1)[:, None]
    even, odd = functional.conv2d(flat, waves).chunk(2, dim=1)
    return (even.square() + odd.square()).sqrt().view(len(values), -1, *values.shape[-2:])


@cache
def _waves() -> Tensor:
    """Return the filters (8, 1, h, h): cosines of all orientations, then sines, in a Gaussian window, with mean 0."""
    place = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    y, x = torch.meshgrid(place, place, indexing="ij")
    window = torch.exp(-(x.square() + y.square()) / (2 * _SIGMA**2))
    window = window / window.sum()
    parts = []
    for wave in (torch.cos, torch.sin):
        for number in range(_ORIENTATIONS):
            angle = math.pi * number / _ORIENTATIONS
            values = wave(2 * math.pi / _WAVELENGTH * (x * math.cos(angle) + y * math.sin(angle)))
            parts.append(window * (values - (window * values).sum()))
    return torch.stack(parts)[:, None]
