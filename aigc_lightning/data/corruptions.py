"""Image corruptions: noise, blur, compression, darkening and downscaling, keyed and in any order.

Shapes: B batch, C channels, H and W height and width in pixels. Pixels are floats from 0 to 255. Transparency (a fourth
channel) is reduced with the images and otherwise unchanged.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.core.io.pictures import to_picture
from aigc_lightning.core.resampling import reduced
from aigc_lightning.errors import UserError

#: A strength: a number, or a range (low, high) from which each sample draws its own.
Strength = float | tuple[float, float]

_STRENGTH, _PIXELS = range(2)  # kinds of draws
_KEYS = 1000  # first key of corruptions, above those of augmentation


class Corruption(ABC):
    """One kind of corruption. Subclasses are dataclasses of their strengths."""

    @abstractmethod
    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Return the corrupted version of one image.

        Args:
            image: float (C, H, W) in [0, 255], C being 1 or 3.
            strength: a number from the range of `strength`.
            key: for random numbers.
        """

    @property
    @abstractmethod
    def strength(self) -> Strength:
        """The strength of the corruption."""

    @property
    def scale(self) -> int:
        """The factor by which images become smaller."""
        return 1

    def _check_size(self, image: Tensor) -> None:
        """Reject an image (C, H, W) whose sides are not multiples of `scale`."""
        height, width = image.shape[1:]
        if height % self.scale or width % self.scale:
            what = f"{type(self).__name__}.factor is {self.scale} but the images have {height}x{width} pixels."
            raise UserError(what, f"Choose a size that is a multiple of {self.scale}.")

    def _check(self, name: str, low: float, high: float) -> None:
        """Reject a strength outside [low, high], or an invalid range."""
        bounds = _range(self.strength)
        if not low <= bounds[0] <= bounds[1] <= high:
            what = f"{type(self).__name__}.{name} is {self.strength}."
            upper = "more" if math.isinf(high) else f"up to {high:g}"
            raise UserError(what, f"Give a number of {low:g} or {upper}, or a range such as [{low:g}, {low + 1:g}].")


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Independent Gaussian noise on every channel of every pixel.

    Args:
        std: standard deviation on a scale of 0 to 255; at least 0.

    Raises:
        UserError: std out of range.
    """

    std: Strength = 25.0

    def __post_init__(self) -> None:
        self._check("std", 0, math.inf)

    @property
    def strength(self) -> Strength:
        """The standard deviation."""
        return self.std

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Add the noise."""
        return image + strength * keyed.normal(tuple(image.shape), *key)


@dataclass(frozen=True)
class GaussianBlur(Corruption):
    """Gaussian blur, as of a lens out of focus, with reflected borders.

    Args:
        sigma: standard deviation of the kernel in pixels; at least 0.

    Raises:
        UserError: sigma out of range.
    """

    sigma: Strength = 1.5

    def __post_init__(self) -> None:
        self._check("sigma", 0, math.inf)

    @property
    def strength(self) -> Strength:
        """The standard deviation of the kernel."""
        return self.sigma

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Convolve with a Gaussian kernel truncated at three standard deviations."""
        radius = min(math.ceil(3 * strength), min(image.shape[1:]) - 1)
        if radius < 1:
            return image
        kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * strength**2))
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
        padded = functional.pad(image[:, None], [radius] * 4, mode="reflect")
        return functional.conv2d(functional.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


@dataclass(frozen=True)
class JPEG(Corruption):
    """JPEG compression, as in pictures from the web.

    Args:
        quality: of the JPEG encoder, from 1 (worst) to 95.

    Raises:
        UserError: quality out of range.
    """

    quality: Strength = 20.0

    def __post_init__(self) -> None:
        self._check("quality", 1, 95)

    @property
    def strength(self) -> Strength:
        """The quality."""
        return self.quality

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Encode and decode."""
        file = BytesIO()
        to_picture(_rounded(image)).save(file, "JPEG", quality=round(strength))
        pixels = torch.from_numpy(np.array(Image.open(file)))
        return pixels.view(*image.shape[1:], len(image)).permute(2, 0, 1).float()


@dataclass(frozen=True)
class LowLight(Corruption):
    """Underexposure: less light in every pixel, in linear light (sRGB, IEC 61966-2-1).

    Real dark pictures are also noisy: add `GaussianNoise` after it.

    Args:
        exposure: fraction of the light that remains, from 0 to 1.

    Raises:
        UserError: exposure out of range.
    """

    exposure: Strength = 0.2

    def __post_init__(self) -> None:
        self._check("exposure", 0, 1)

    @property
    def strength(self) -> Strength:
        """The fraction of the light that remains."""
        return self.exposure

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Scale the light."""
        encoded = image.clamp(0, 255) / 255
        light = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4) * strength
        return 255 * torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@dataclass(frozen=True)
class Downscale(Corruption):
    """Bicubic downscaling as in super-resolution (MATLAB's imresize), with the same factor for all samples.

    Args:
        factor: divisor of height and width, which must be multiples of it.

    Raises:
        UserError: a factor below 2, or images whose size is not a multiple of it.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise UserError(f"Downscale.factor is {self.factor}.", "Give 2 or more.")

    @property
    def strength(self) -> Strength:
        """The factor."""
        return self.factor

    @property
    def scale(self) -> int:
        """The factor."""
        return self.factor

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Resize."""
        self._check_size(image)
        return reduced(image, self.factor)


def corrupt(images: Tensor, corruptions: Sequence[Corruption], keys: Sequence[tuple[int, ...]]) -> Tensor:
    """Apply all corruptions to the images in order.

    Between the corruptions pixels are neither rounded nor clipped, except as JPEG requires.

    Args:
        images: uint8 (B, C, H, W).
        corruptions: the corruptions to apply.
        keys: B keys; the corruption of an image depends on its own key only.

    Returns:
        uint8 (B, C, h, w); smaller than the images by the product of the corruptions' `scale`.
    """
    spoilt = [_corrupted(image.float(), corruptions, key) for image, key in zip(images, keys, strict=True)]
    return _rounded(torch.stack(spoilt))


def _corrupted(image: Tensor, corruptions: Sequence[Corruption], key: tuple[int, ...]) -> Tensor:
    color, alpha = image[:3], image[3:]
    for number, corruption in enumerate(corruptions):
        own = (*key, _KEYS + number)
        low, high = _range(corruption.strength)
        strength = low + (high - low) * float(keyed.uniform(*own, _STRENGTH))
        color = corruption.spoil(color, strength, (*own, _PIXELS))
        if len(alpha) and corruption.scale > 1:
            alpha = reduced(alpha, corruption.scale)
    return torch.cat([color, alpha]) if len(alpha) else color


def _range(strength: Strength) -> tuple[float, float]:
    low, high = (strength, strength) if isinstance(strength, int | float) else strength
    return low, high


def _rounded(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)
