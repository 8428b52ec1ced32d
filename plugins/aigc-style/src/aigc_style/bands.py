"""The colours and the contrast of a picture at each scale: the palettes of the bands of a Laplacian pyramid.

Papers: Burt, Adelson, The Laplacian Pyramid as a Compact Image Code, IEEE Transactions on Communications 1983; Heeger,
Bergen, Pyramid-Based Texture Analysis/Synthesis, SIGGRAPH 1995 (a texture's bands are matched one by one).
Departures from the second paper: means and covariances of colours in place of histograms, and no orientations.
Shapes: B batch, C channels, H and W height and width in pixels, K = 5 bands, S = 5 sizes.
"""

from collections.abc import Sequence
from math import log2

import torch
from aigc_lightning.networks.residual import crop, pad_to_least, pad_to_multiple
from torch import Tensor
from torch.nn import functional

from aigc_style.statistics import Palette, match_palettes, palette, resized

_HALVINGS = 4
NUM_BANDS = _HALVINGS + 1
#: Square roots of areas in pixels, each twice the one before.
SIDES = (64, 128, 256, 512, 1024)
_ROUNDS = 3  # since a change of one band shows a little in its neighbours
#: Pixels of which heights and widths that need no padding are multiples.
MULTIPLE = 2**_HALVINGS
_SMALLEST = 2 * MULTIPLE  # pixels, so that the coarsest band has two


def band_palettes(images: Tensor) -> Palette:
    """Return the palettes of the bands of images (B, C, H, W), from fine to coarse, and their own: (K + 1, B, ...)."""
    found = [palette(one) for one in (*_bands(_padded(images)), images)]
    return Palette(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def palettes_by_size(style: Tensor) -> Palette:
    """Return the palettes (S, K + 1, C, ...) of the bands of a style (1, C, H, W), resized to each of `SIDES`."""
    scales = [side / (style.shape[-2] * style.shape[-1]) ** 0.5 for side in SIDES]
    sizes = [(max(1, round(scale * style.shape[-2])), max(1, round(scale * style.shape[-1]))) for scale in scales]
    found = [band_palettes(resized(style, size)) for size in sizes]
    return Palette(*(torch.stack(parts).squeeze(2) for parts in zip(*found, strict=True)))


def at_size(palettes: Palette, images: Tensor) -> Palette:
    """Return the palettes (K + 1, B, C, ...) of a style that is as large as images (B, C, H, W), from those by size."""
    area = images.new_ones(images.shape[-2:]).sum()  # of the image, also in exported programs
    place = (0.5 * torch.log2(area) - log2(SIDES[0])).clamp(0, len(SIDES) - 1)
    shares = (1 - (torch.arange(len(SIDES), device=images.device) - place).abs()).clamp_min(0)
    parts = ((shares.view(-1, 1, 1, 1) * part).sum(dim=0).unsqueeze(1) for part in palettes)
    return Palette(*(part.expand(-1, images.shape[0], -1, -1) for part in parts))


def mixed_palettes(choices: Sequence[Palette], shares: Sequence[float]) -> Palette:
    """Return the means of palettes of one shape, which count by their shares."""
    pairs = zip(choices, shares, strict=True)
    means, covariances = zip(*((share * one.mean, share * one.covariance) for one, share in pairs), strict=True)
    return Palette(torch.stack(means).sum(dim=0), torch.stack(covariances).sum(dim=0))


def match_bands(images: Tensor, wanted: Palette) -> Tensor:
    """Return images (B, C, H, W) that take what `band_palettes` returned for others: band by band, then as a whole."""
    result = _padded(images)
    for _ in range(_ROUNDS):
        result = _joined(match_palettes(_bands(result), Palette(wanted.mean[:-1], wanted.covariance[:-1])))
    if not torch.compiler.is_exporting():
        result = crop(result, images.shape[-2], images.shape[-1])
    return match_palettes([result], Palette(wanted.mean[-1:], wanted.covariance[-1:]))[0]


def _bands(images: Tensor) -> list[Tensor]:
    """Return the bands of images whose sizes are multiples of 16: four of details, and what is left at 1/16."""
    bands = []
    for _ in range(_HALVINGS):
        coarse = functional.avg_pool2d(images, 2)
        bands.append(images - _enlarged(coarse, images))
        images = coarse
    return [*bands, images]


def _joined(bands: Sequence[Tensor]) -> Tensor:
    """Return the images of bands."""
    images = bands[-1]
    for band in reversed(bands[:-1]):
        images = _enlarged(images, band) + band
    return images


def _enlarged(images: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(images, like.shape[-2:], mode="bilinear", align_corners=False)


def _padded(images: Tensor) -> Tensor:
    if torch.compiler.is_exporting():  # for sizes that need no padding
        return images
    return pad_to_multiple(pad_to_least(images, _SMALLEST), MULTIPLE)
