"""The fifteen common corruptions in five severities, for measuring and training robustness.

Paper: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019, https://arxiv.org/abs/1903.12261 (section 3 and appendix B).
Departures from the paper: lengths are the published ones of 224 pixels in proportion to the shorter side, so that
images may have any size from 8 pixels; frost is a pattern of ridged noise instead of six photographs; snow, fog,
the paths of motion blur and the displacements of glass blur and of elastic transforms have parameters of their own. So
results are not comparable with those on the published image sets.
Shapes: C channels, H and W height and width in pixels. Pixels are floats from 0 to 1 here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.data.blur_kernels import filtered
from aigc_lightning.data.corruptions import JPEG, Corruption, GaussianBlur
from aigc_lightning.errors import UserError, did_you_mean

Key = tuple[int, ...]

#: The largest severity.
WORST = 5
_SMALLEST = 8  # pixels
_PAPER = 224  # pixels of a side for which the paper gives its lengths
_OCTAVES = 6


@dataclass(frozen=True)
class CommonCorruption(Corruption):
    """One of the fifteen common corruptions, in a severity.

    Args:
        kind: such as "fog"; see `COMMON`.
        severity: from 0, which changes nothing, to 5; from a range, a whole number in it for each image.

    Raises:
        UserError: an unknown kind, a severity out of range or not whole, or images smaller than 8 pixels.
    """

    kind: str = "gaussian_noise"
    severity: int | tuple[int, int] = 3

    def __post_init__(self) -> None:
        check_kinds([self.kind])
        bounds = (self.severity, self.severity) if isinstance(self.severity, int) else tuple(self.severity)
        if not (len(bounds) == 2 and 0 <= bounds[0] <= bounds[1] <= WORST):
            what = f"CommonCorruption.severity is {self.severity}."
            raise UserError(what, f"Give a whole number from 0 to {WORST}, or a range such as [1, {WORST}].")

    @property
    def strength(self) -> float | tuple[float, float]:
        """The severity; a range is half a step wider at both ends, so that rounding is fair to all whole numbers."""
        if isinstance(self.severity, int):
            return self.severity
        low, high = self.severity
        return (low - 0.5, high + 0.5) if low < high else low

    def spoil(self, image: Tensor, strength: float, key: Key) -> Tensor:
        """Return the image, float (C, H, W) in [0, 255], corrupted; unchanged in severity 0."""
        severity = math.floor(strength + 0.5)
        if min(image.shape[1:]) < _SMALLEST:
            height, width = image.shape[1:]
            what = f"The images have {height}x{width} pixels, and corruptions need {_SMALLEST} per side."
            raise UserError(what, "Give larger images.")
        if severity == 0:
            return image
        spoilt: Tensor = COMMON[self.kind](image.clamp(0, 255) / 255, severity - 1, key)
        return spoilt.clamp(0, 1) * 255


def check_kinds(kinds: list[str]) -> None:
    """Refuse corruptions that do not exist.

    Raises:
        UserError: a name is not in `COMMON`.
    """
    for kind in kinds:
        if kind not in COMMON:
            hint = did_you_mean(kind, COMMON) or f"Known: {', '.join(COMMON)}."
            raise UserError(f"There is no corruption {kind!r}.", hint)


def _gaussian_noise(image: Tensor, level: int, key: Key) -> Tensor:
    return image + (0.08, 0.12, 0.18, 0.26, 0.38)[level] * keyed.normal(tuple(image.shape), *key)


def _shot_noise(image: Tensor, level: int, key: Key) -> Tensor:
    photons = (60, 25, 12, 5, 3)[level]
    return torch.poisson(image * photons, generator=keyed.generator(*key)) / photons


def _impulse_noise(image: Tensor, level: int, key: Key) -> Tensor:
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[level]
    draws = torch.rand(image.shape, generator=keyed.generator(*key))
    salted = torch.where(draws < share / 2, torch.ones_like(image), image)
    return torch.where(draws > 1 - share / 2, torch.zeros_like(image), salted)


def _defocus_blur(image: Tensor, level: int, key: Key) -> Tensor:
    radius = _pixels(image, (3, 4, 6, 8, 10)[level])
    reach = min(math.ceil(radius + 1), _widest(image))
    places = torch.arange(-reach, reach + 1)
    distances = (places[:, None] ** 2 + places[None, :] ** 2).sqrt()
    return _filtered(image, (radius + 1 - distances).clamp(0, 1))  # a disk with a smooth edge


def _glass_blur(image: Tensor, level: int, key: Key) -> Tensor:
    reach = _pixels(image, (3, 5, 7, 9, 12)[level])
    image = _blurred(image, reach / 4)
    moves = 2 * torch.rand(*image.shape[1:], 2, generator=keyed.generator(*key)) - 1  # of each pixel by itself
    return _moved(image, moves * reach / torch.tensor(image.shape[:0:-1]))


def _motion_blur(image: Tensor, level: int, key: Key) -> Tensor:
    length = _pixels(image, (12, 18, 24, 32, 40)[level])
    return _filtered(image, _line(length, math.pi * float(keyed.uniform(*key)), _widest(image)))


def _zoom_blur(image: Tensor, level: int, key: Key) -> Tensor:
    zooms = torch.linspace(1, (1.11, 1.16, 1.21, 1.26, 1.31)[level], 11)
    turns = torch.zeros(len(zooms), 2, 3)
    turns[:, 0, 0] = turns[:, 1, 1] = 1 / zooms
    grid = functional.affine_grid(turns, [len(zooms), *image.shape], align_corners=False)
    copies = image.expand(len(zooms), -1, -1, -1)
    return functional.grid_sample(copies, grid, padding_mode="reflection", align_corners=False).mean(0)


def _snow(image: Tensor, level: int, key: Key) -> Tensor:
    share, length, haze = ((0.01, 8, 0.1), (0.02, 10, 0.15), (0.03, 12, 0.2), (0.04, 14, 0.25), (0.05, 16, 0.3))[level]
    draws = torch.rand(1, *image.shape[1:], generator=keyed.generator(*key, 0))
    angle = math.pi * (0.25 + 0.5 * float(keyed.uniform(*key, 1)))  # falling, not flying sideways
    flakes = _filtered((draws < share).float(), _line(_pixels(image, length), angle, _widest(image)))
    grey = image.mean(0, keepdim=True)
    return (1 - haze) * image + haze * torch.maximum(image, grey * 1.5 + 0.5) + 2 * flakes.clamp(0, 0.5)


def _frost(image: Tensor, level: int, key: Key) -> Tensor:
    kept, added = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[level]
    ridges = 1 - (2 * _clouds(image, key) - 1).abs()  # thin bright lines where the noise crosses its middle
    return kept * image + added * ridges**3


def _fog(image: Tensor, level: int, key: Key) -> Tensor:
    thickness = (0.6, 0.9, 1.3, 1.8, 2.5)[level]
    brightest = image.max().clamp(min=1e-3)
    return (image + thickness * _clouds(image, key)) * brightest / (brightest + thickness)


def _brightness(image: Tensor, level: int, key: Key) -> Tensor:
    value = image.amax(0, keepdim=True)  # of hue, saturation and value
    brighter = (value + (0.1, 0.2, 0.3, 0.4, 0.5)[level]).clamp(max=1)
    return torch.where(value > 0, image * brighter / value.clamp(min=1e-6), brighter)


def _contrast(image: Tensor, level: int, key: Key) -> Tensor:
    mean = image.mean(dim=(1, 2), keepdim=True)
    return (image - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level] + mean


def _elastic_transform(image: Tensor, level: int, key: Key) -> Tensor:
    reach = (0.01, 0.017, 0.024, 0.031, 0.038)[level]  # share of a side
    coarse = keyed.normal((1, 2, 5, 5), *key)
    moves = functional.interpolate(coarse, image.shape[1:], mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    return _moved(image, reach * moves)


def _pixelate(image: Tensor, level: int, key: Key) -> Tensor:
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    _, height, width = image.shape
    small = (max(1, round(height * share)), max(1, round(width * share)))
    means = functional.adaptive_avg_pool2d(image[None], small)
    return functional.interpolate(means, image.shape[1:], mode="nearest-exact")[0]


def _jpeg_compression(image: Tensor, level: int, key: Key) -> Tensor:
    return JPEG().spoil(image * 255, (25, 18, 15, 10, 7)[level], key) / 255


#: The corruptions, in the order of the paper: noise, blur, weather, digital. Each takes an image float (C, H, W) in
#: [0, 1], the severity minus 1 and a key, and returns an image of the same shape.
COMMON: dict[str, Callable[[Tensor, int, Key], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


def _pixels(image: Tensor, length: float) -> float:
    """Return a length of the paper's images in pixels of this image."""
    return length * min(image.shape[1:]) / _PAPER


def _widest(image: Tensor) -> int:
    """Return the largest radius of a filter: reflected borders are shorter than the image."""
    return min(image.shape[1:]) - 1


def _blurred(image: Tensor, sigma: float) -> Tensor:
    return GaussianBlur().spoil(image, sigma, ()) if sigma > 0 else image


def _filtered(image: Tensor, weights: Tensor) -> Tensor:
    """Return the image convolved with square weights of odd size, scaled to sum 1, with reflected borders."""
    return filtered(image, weights / weights.sum())


def _moved(image: Tensor, moves: Tensor) -> Tensor:
    """Return the image with each pixel read from elsewhere, by moves (H, W, 2) to the right and down in image sizes."""
    still = functional.affine_grid(torch.eye(2, 3)[None], [1, *image.shape], align_corners=False)
    grid = still + 2 * moves
    return functional.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]


def _line(length: float, angle: float, widest: int) -> Tensor:
    """Return a kernel (K, K) that averages along a line of some pixels at an angle in radians."""
    reach = min(math.ceil(length / 2), widest)
    ways = torch.linspace(-min(length / 2, reach), min(length / 2, reach), 8 * reach + 1)
    places = torch.arange(-reach, reach + 1)

    def weights(offsets: Tensor) -> Tensor:  # of a point between two pixels: bilinear
        return (1 - (places[None] - offsets[:, None]).abs()).clamp(min=0)

    return weights(ways * math.sin(angle)).T @ weights(ways * math.cos(angle))


def _clouds(image: Tensor, key: Key) -> Tensor:
    """Return fractal noise (1, H, W) from 0 to 1: octaves of half the size and half the amplitude each."""
    height, width = image.shape[1:]
    total = torch.zeros(1, 1, height, width)
    for octave in range(_OCTAVES):
        cells = 2 ** (octave + 1) + 1
        if cells > min(height, width):
            break
        coarse = keyed.normal((1, 1, cells, cells), *key, octave)
        total += functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True) / 2**octave
    low, high = total.min(), total.max()
    return ((total - low) / (high - low).clamp(min=1e-6))[0]
