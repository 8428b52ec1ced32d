"""The degradation of Real-ESRGAN: blur, resizing, noise and JPEG, twice, with ringing at the end.

Paper: Wang et al., Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, ICCVW 2021,
https://arxiv.org/abs/2107.10833 (sections 3 and 4.1)
Departures from the paper: JPEG by an encoder (Pillow) instead of a differentiable model of one; large images are not
sharpened. Where the paper names no numbers, such as the shares of round kernels, they are those of its authors.
Shapes: C channels, H and W height and width in pixels. Pixels are floats from 0 to 255.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.data.blur_kernels import filtered, gaussian_kernel, plateau_kernel, sinc_kernel
from aigc_lightning.data.corruptions import JPEG, Corruption
from aigc_lightning.errors import UserError

Range = tuple[float, float]

_KERNELS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
_MODES = ("area", "bilinear", "bicubic")  # of resizing, equally likely
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
#: Lowest cutoff of sinc kernels: a small kernel with a lower one would be a mere blur.
_LEAST_CUTOFF = {True: math.pi / 3, False: math.pi / 5}  # of kernels below 13 pixels, and of others

#: What ranges must lie within.
_BOUNDS: dict[str, Range] = {
    "kernel_size": (3, 99),
    "blur_sigma": (0.05, 100),
    "generalized_beta": (0.05, 20),
    "plateau_beta": (0.05, 20),
    "resize_range": (0.05, 8),
    "noise_sigma": (0, 255),
    "poisson_scale": (0, 100),
    "jpeg_quality": (1, 95),
}


def _are_shares(values: Sequence[float]) -> bool:
    return all(value >= 0 for value in values) and math.isclose(sum(values), 1, abs_tol=1e-6)


@dataclass(frozen=True)
class DegradationStage:
    """One stage: blur, resizing, noise and JPEG; the defaults are those of the first stage in the paper.

    Args:
        blur_prob: probability of a blur.
        sinc_prob: probability that the blur is a sinc filter, which causes ringing and overshoot.
        kernel_probs: of the other kernels: Gaussian, generalized Gaussian and plateau-shaped, each first round (iso),
            then oval (aniso).
        kernel_size: least and largest side of a kernel in pixels; all odd numbers in between are equally likely.
        blur_sigma: range of the kernels' standard deviations in pixels.
        generalized_beta: range of the shape of generalized Gaussian kernels; half of them lie below 1.
        plateau_beta: range of the shape of plateau-shaped kernels; half of them lie below 1 if the range does.
        resize_probs: of enlarging, of reducing, and of keeping the size.
        resize_range: smallest and largest factor.
        noise_prob: probability of noise.
        gaussian_noise_prob: probability that the noise is Gaussian; otherwise it is Poisson noise.
        noise_sigma: range of the standard deviation of Gaussian noise, on a scale of 0 to 255.
        poisson_scale: range of the factor of Poisson noise, which is 1 for one photon per level of brightness.
        gray_noise_prob: probability that all channels have the same noise.
        jpeg_prob: probability of JPEG compression.
        jpeg_quality: range of its quality.

    Raises:
        UserError: a value out of range.
    """

    blur_prob: float = 1.0
    sinc_prob: float = 0.1
    kernel_probs: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    kernel_size: tuple[int, int] = (7, 21)
    blur_sigma: Range = (0.2, 3.0)
    generalized_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    resize_probs: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    noise_prob: float = 1.0
    gaussian_noise_prob: float = 0.5
    noise_sigma: Range = (1.0, 30.0)
    poisson_scale: Range = (0.05, 3.0)
    gray_noise_prob: float = 0.4
    jpeg_prob: float = 1.0
    jpeg_quality: Range = (30.0, 95.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probs"):
                valid, form = _are_shares(value), "numbers of 0 or more with the sum 1"
            elif field.name.endswith("_prob"):
                valid, form = 0 <= value <= 1, "a number from 0 to 1"
            else:
                low, high = _BOUNDS[field.name]
                valid, form = low <= value[0] <= value[1] <= high, f"a range within {low:g} and {high:g}"
            if not valid:
                raise UserError(f"{type(self).__name__}.{field.name} is {value}.", f"Give {form}.")
        if self.resize_range[0] > 1 or self.resize_range[1] < 1:
            what = f"{type(self).__name__}.resize_range is {self.resize_range}."
            raise UserError(what, "Give one factor up to 1 and one from 1, such as [0.15, 1.5].")
        if any(side % 2 == 0 for side in self.kernel_size):
            raise UserError(f"{type(self).__name__}.kernel_size is {self.kernel_size}.", "Give two odd numbers.")


#: The second stage of the paper.
_SECOND = DegradationStage(
    blur_prob=0.8,
    blur_sigma=(0.2, 1.5),
    resize_probs=(0.3, 0.4, 0.3),
    resize_range=(0.3, 1.2),
    noise_sigma=(1.0, 25.0),
    poisson_scale=(0.05, 2.5),
)


@dataclass(frozen=True)
class SecondOrderDegradation(Corruption):
    """What pictures from the web have gone through: the second-order degradation of Real-ESRGAN.

    Args:
        factor: divisor of height and width, which must be multiples of it; 1 keeps the size.
        first: the first stage.
        second: the second stage, of which the JPEG compression comes before or after the final sinc filter.
        final_sinc_prob: probability of the final sinc filter.

    Raises:
        UserError: a value out of range, or images whose size is not a multiple of the factor.
    """

    factor: int = 4
    first: DegradationStage = DegradationStage()
    second: DegradationStage = _SECOND
    final_sinc_prob: float = 0.8

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UserError(f"SecondOrderDegradation.factor is {self.factor}.", "Give 1 or more.")
        if not 0 <= self.final_sinc_prob <= 1:
            what = f"SecondOrderDegradation.final_sinc_prob is {self.final_sinc_prob}."
            raise UserError(what, "Give a number from 0 to 1.")

    @property
    def strength(self) -> float:
        """The factor; everything else is drawn from the ranges of the stages."""
        return self.factor

    @property
    def scale(self) -> int:
        """The factor."""
        return self.factor

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Degrade an image (C, H, W) to (C, H / factor, W / factor)."""
        self._check_size(image)
        draws = _Draws(keyed.generator(*key))
        height, width = image.shape[1:]
        small = (height // self.factor, width // self.factor)
        image = _blurred_and_resized(image, self.first, (height, width), draws)
        image = _compressed(_noisy(image, self.first, draws), self.first, draws)
        image = _noisy(_blurred_and_resized(image, self.second, small, draws), self.second, draws)
        compressed_first = draws.chance(0.5)
        if compressed_first:
            image = _compressed(image, self.second, draws)
        image = _resized(image, small, draws)
        if draws.chance(self.final_sinc_prob):
            image = filtered(image, _sinc(_size(self.second, draws), draws)).clamp(0, 255)
        return image if compressed_first else _compressed(image, self.second, draws)


class _Draws:
    """Random numbers of one image."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def choice(self, probabilities: Sequence[float]) -> int:
        """Return a number that is drawn with these probabilities, never one with probability 0."""
        draw, total = self.uniform(0, sum(probabilities)), 0.0
        for number, probability in enumerate(probabilities):
            total += probability
            if draw < total:
                return number
        return max(number for number, probability in enumerate(probabilities) if probability > 0)  # rounding


def _blurred_and_resized(image: Tensor, stage: DegradationStage, size: tuple[int, int], draws: _Draws) -> Tensor:
    """Return an image that has been blurred and resized to a random multiple of a size (height, width)."""
    if draws.chance(stage.blur_prob):
        image = filtered(image, random_kernel(stage, draws))
    kind = draws.choice(stage.resize_probs)
    low, high = stage.resize_range
    factor = (draws.uniform(1, high), draws.uniform(low, 1), 1.0)[kind]
    return _resized(image, (max(1, round(size[0] * factor)), max(1, round(size[1] * factor))), draws)


def random_kernel(stage: DegradationStage, draws: _Draws) -> Tensor:
    """Return a random blur kernel of a stage, (K, K) with sum 1."""
    size = _size(stage, draws)
    if draws.chance(stage.sinc_prob):
        return _sinc(size, draws)
    kind = _KERNELS[draws.choice(stage.kernel_probs)]
    sigma_x = sigma_y = draws.uniform(*stage.blur_sigma)
    angle = 0.0
    if kind.endswith("aniso"):
        sigma_y, angle = draws.uniform(*stage.blur_sigma), draws.uniform(-math.pi, math.pi)
    if kind.startswith("plateau"):
        return plateau_kernel(size, sigma_x, sigma_y, angle, _shape(stage.plateau_beta, draws))
    beta = _shape(stage.generalized_beta, draws) if kind.startswith("generalized") else 1.0
    return gaussian_kernel(size, sigma_x, sigma_y, angle, beta)


def _size(stage: DegradationStage, draws: _Draws) -> int:
    low, high = stage.kernel_size
    return low + 2 * int(draws.uniform(0, (high - low) // 2 + 1))


def _sinc(size: int, draws: _Draws) -> Tensor:
    return sinc_kernel(size, draws.uniform(_LEAST_CUTOFF[size < 13], math.pi))


def _shape(bounds: Range, draws: _Draws) -> float:
    """Return a shape: half of them below 1 and half above, however long the two parts of the range are."""
    low, high = bounds
    if low < 1 < high:
        return draws.uniform(low, 1) if draws.chance(0.5) else draws.uniform(1, high)
    return draws.uniform(low, high)


def _resized(image: Tensor, size: tuple[int, int], draws: _Draws) -> Tensor:
    mode = _MODES[draws.choice([1 / len(_MODES)] * len(_MODES))]
    if tuple(image.shape[1:]) == size:
        return image
    corners = None if mode == "area" else False
    return functional.interpolate(image[None], size, mode=mode, align_corners=corners)[0].clamp(0, 255)


def _noisy(image: Tensor, stage: DegradationStage, draws: _Draws) -> Tensor:
    if not draws.chance(stage.noise_prob):
        return image
    gaussian, gray = draws.chance(stage.gaussian_noise_prob), draws.chance(stage.gray_noise_prob)
    if gaussian:
        shape = (1, *image.shape[1:]) if gray else tuple(image.shape)
        noise = draws.uniform(*stage.noise_sigma) * torch.randn(shape, generator=draws.generator)
    else:
        noise = draws.uniform(*stage.poisson_scale) * _poisson_noise(_gray(image) if gray else image, draws)
    return (image + noise).clamp(0, 255)


def _poisson_noise(image: Tensor, draws: _Draws) -> Tensor:
    """Return the difference of photon counts from their means, which are the image's levels, in [0, 255].

    White is as many photons as the image has different levels, rounded up to a power of 2.
    """
    levels = image.round().clamp(0, 255)
    photons = 2.0 ** math.ceil(math.log2(max(len(levels.unique()), 2)))
    counts = torch.poisson(levels / 255 * photons, generator=draws.generator)
    return counts / photons * 255 - levels


def _gray(image: Tensor) -> Tensor:
    """Return the luma (1, H, W)."""
    if len(image) == 1:
        return image
    return torch.einsum("c,chw->hw", image.new_tensor(_LUMA), image)[None]


def _compressed(image: Tensor, stage: DegradationStage, draws: _Draws) -> Tensor:
    if not draws.chance(stage.jpeg_prob):
        return image
    return JPEG().spoil(image, draws.uniform(*stage.jpeg_quality), ())
