"""A filling of holes that continues what repeats or runs straight in the picture, by the picture's own spectrum.

Papers: Galerne, Leclaire, Texture Inpainting Using Efficient Gaussian Conditional Simulation, SIAM Journal on Imaging
Sciences 2017 (a Gaussian process with the spectrum of what is known, and its mean in the hole by conjugate gradients);
Dempster, Laird, Rubin, Maximum Likelihood from Incomplete Data via the EM Algorithm, JRSS B 1977; Guleryuz, Nonlinear
Approximation Based Image Recovery Using Adaptive Sparse Reconstructions and Iterated Denoising, IEEE TIP 2006, part I
(overlapping windows in the basis of cosines).
Departures: the process is stationary in the cosine transform, which repeats nothing across the border. Its spectrum is
that of a spline in tension, times a factor that is blurred over neighbouring frequencies and estimated anew from what
has been filled, without the variance there. The result is the mean; nothing is drawn at random.
Shapes: B batch, C channels, H and W height and width in pixels; N windows of h times w pixels.
"""

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_restore.inpainting.push_pull import TENSION, dot, precise, push_pull


class _Stage(NamedTuple):
    """How windows of one size are filled, which overlap by half.

    Args:
        side: h and w in pixels.
        blur: standard deviation of the blur of the spectrum, in frequencies of the window.
        rounds: estimates of the spectrum.
        steps: of conjugate gradients before each estimate but the first.
        last_steps: after the last one.
    """

    side: int
    blur: float
    rounds: int
    steps: int
    last_steps: int


# Chosen on training crops of photographs. Large windows know more of what repeats, small ones what changes.
_STAGES = (_Stage(96, 2.0, 4, 12, 30), _Stage(32, 1.2, 2, 8, 12))
_PRIOR_WEIGHT = 0.1  # of the spline's spectrum in the estimate
_LEAST_PRECISION = 1e-6  # keeps the spectrum of the mean finite
_LEAST_KNOWN = 0.1  # share of a window, below which it is left as it is
_NUM_WINDOWS = 64  # at a time
_TINY = 1e-30


def spectral(images: Tensor, masks: Tensor) -> Tensor:
    """Return images (B, C, H, W) with their holes filled, unclipped; all other pixels are left as they are.

    Holes that are much larger than 96 pixels are filled smoothly in the middle.

    Args:
        images: what is in the holes does not matter.
        masks: (B, 1, H, W), 1 in holes and 0 elsewhere.
    """
    output: Tensor = _operator(images.detach(), masks)
    return output


# One operation for compilers and graphs, which could not follow it: what it computes depends on where the holes are.
@torch.library.custom_op("aigc_restore::spectral", mutates_args=())
def _operator(images: Tensor, masks: Tensor) -> Tensor:
    dtype = precise(images)
    unknown = masks.to(dtype)
    filled = push_pull(images.to(dtype), unknown)
    for stage in _STAGES:
        filled = _filled(filled, unknown, stage)
    return torch.where(masks > 0.5, filled.to(images), images)


@_operator.register_fake
def _shape(images: Tensor, masks: Tensor) -> Tensor:
    return torch.empty_like(images)


def _filled(images: Tensor, masks: Tensor, stage: _Stage) -> Tensor:
    """Return filled images (B, C, H, W), filled better from windows that overlap."""
    height, width = (min(stage.side, size) for size in images.shape[-2:])
    shape = _bump(height)[:, None] * _bump(width)
    changes, total = torch.zeros_like(images), torch.zeros_like(images[:, :1])
    places: list[tuple[int | slice, ...]] = []
    for top in _starts(images.shape[-2], height):
        for left in _starts(images.shape[-1], width):
            inside = slice(top, top + height), slice(left, left + width)
            total[..., *inside] += shape.to(images)
            shares = masks[..., *inside].mean(dim=(1, 2, 3)).tolist()
            places += [(n, slice(None), *inside) for n, hole in enumerate(shares) if 0 < hole <= 1 - _LEAST_KNOWN]
    for start in range(0, len(places), _NUM_WINDOWS):
        chosen = places[start : start + _NUM_WINDOWS]
        before, unknown = (torch.stack([whole[place] for place in chosen]) for whole in (images, masks))
        # Windows of which less than half is known change less, those of which nothing is known not at all: no seams.
        trust = (2 - 2 * unknown.mean(dim=(1, 2, 3), keepdim=True)).clamp_max(1)
        change = shape.to(images) * trust * (_mean(before, unknown, stage) - before)
        for place, part in zip(chosen, change, strict=True):
            changes[place] += part
    return images + changes / total


def _starts(size: int, side: int) -> list[int]:
    return [*range(0, size - side, max(1, side // 2)), size - side]


@cache
def _bump(size: int) -> Tensor:
    """Return weights (size,) that fall to about 0 at the ends of a window."""
    return torch.sin(math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size) ** 2


class _Basis:
    """Cosines of windows, one per frequency, orthonormal.

    Args:
        sides: h and w in pixels.
        blur: standard deviation in frequencies.
        like: gives type and device.
    """

    def __init__(self, sides: tuple[int, ...], blur: float, like: Tensor) -> None:
        self.cosines = [_cosines(side).to(like) for side in sides]
        self.blurs = [_blur(side, blur).to(like) for side in sides]
        # Eigenvalues of the negative Laplacian with a repeated border.
        height, width = (2 - 2 * torch.cos(math.pi * torch.arange(side, dtype=torch.float64) / side) for side in sides)
        squared = (height[:, None] + width).to(like)
        self.prior = 1 / (TENSION * squared + squared.square() + _LEAST_PRECISION)

    def transform(self, pixels: Tensor) -> Tensor:
        """Return the coefficients (N, C, h, w) of pixels (N, C, h, w)."""
        return self.cosines[0] @ pixels @ self.cosines[1].T

    def filtered(self, pixels: Tensor, factors: Tensor) -> Tensor:
        """Return pixels (N, C, h, w) with their coefficients multiplied by factors (N, 1, h, w)."""
        return self.cosines[0].T @ (factors * self.transform(pixels)) @ self.cosines[1]

    def blurred(self, spectrum: Tensor) -> Tensor:
        """Return a spectrum (N, 1, h, w), blurred over neighbouring frequencies."""
        return self.blurs[0] @ spectrum @ self.blurs[1].T


@cache
def _cosines(size: int) -> Tensor:
    places = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * places[:, None] * (places + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


@cache
def _blur(size: int, std: float) -> Tensor:
    """Return a Gaussian blur as a matrix (size, size); at both ends the spectrum goes on as its mirror image."""
    places = torch.arange(size, dtype=torch.float64)
    mirrored = torch.stack([places, -1 - places, 2 * size - 1 - places])
    weights = torch.exp(-0.5 * ((mirrored[:, None] - places[:, None]) / std).square()).sum(dim=0)
    return weights / weights.sum(dim=1, keepdim=True)


def _mean(pixels: Tensor, unknown: Tensor, stage: _Stage) -> Tensor:
    """Return the mean of a Gaussian process in the holes of windows, whose spectrum is estimated from each.

    Args:
        pixels: of the windows (N, C, h, w), filled.
        unknown: (N, 1, h, w), 1 in holes and 0 elsewhere.
        stage: says how.
    """
    basis = _Basis((pixels.shape[-2], pixels.shape[-1]), stage.blur, pixels)
    spectrum, unit = basis.prior, None
    for number in range(stage.rounds):
        if number:
            pixels = _solved(pixels, unknown, basis, spectrum, stage.steps)
        power = basis.transform(pixels).square().mean(dim=1, keepdim=True) / basis.prior
        if unit is None:
            unit = power.flatten(1)[:, 1:].mean(dim=1)[:, None, None, None].clamp_min(_TINY)
        estimate = basis.blurred(power / unit)
        spectrum = basis.prior * (_PRIOR_WEIGHT + (1 - _PRIOR_WEIGHT) * estimate)
    return _solved(pixels, unknown, basis, spectrum, stage.last_steps)


def _solved(pixels: Tensor, unknown: Tensor, basis: _Basis, spectrum: Tensor, steps: int) -> Tensor:
    """Make pixels (N, C, h, w) more probable where `unknown` is 1, given a spectrum (N, 1, h, w) of the process.

    These are conjugate gradients for the precision of the unknown pixels, with their covariance as preconditioner.
    """
    precision = 1 / spectrum
    residual = -unknown * basis.filtered(pixels, precision)
    direction = better = unknown * basis.filtered(residual, spectrum)
    size = dot(residual, better)
    for _ in range(steps):
        curvature = unknown * basis.filtered(direction, precision)
        step = size / dot(direction, curvature).clamp_min(_TINY)
        pixels, residual = pixels + step * direction, residual - step * curvature
        better = unknown * basis.filtered(residual, spectrum)
        before, size = size, dot(residual, better)
        direction = better + size / before.clamp_min(_TINY) * direction
    return pixels
