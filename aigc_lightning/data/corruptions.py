"""What spoils images: noise, blur, compression, darkness and lost pixels, keyed and in any order.

Shapes: B batch, C channels, H and W height and width in pixels. Pixels are floats from 0 to 255. Transparency (a fourth
channel) is left alone by all but `Downscale`.
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
from aigc_lightning.errors import UserError

#: A strength: a number, or the range (low, high) from which each sample draws its own.
Strength = float | tuple[float, float]

_STRENGTH, _PIXELS = range(2)  # kinds of draws
_KEYS = 1000  # keys of corruptions begin here, above those of augmentation


class Corruption(ABC):
    """One way to spoil images. Subclasses are dataclasses of their strengths."""

    @abstractmethod
    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Return the spoilt version of one image.

        Args:
            image: float (C, H, W) in [0, 255], C being 1 or 3.
            strength: a number out of the range of `strength`.
            key: for random numbers.
        """

    @property
    @abstractmethod
    def strength(self) -> Strength:
        """How strongly images are spoilt."""

    def _check(self, name: str, low: float, high: float) -> None:
        """Refuse a strength outside of [low, high], or a range that is none."""
        bounds = _range(self.strength)
        if not low <= bounds[0] <= bounds[1] <= high:
            what = f"{type(self).__name__}.{name} is {self.strength}."
            upper = "more" if math.isinf(high) else f"up to {high:g}"
            raise UserError(what, f"Give a number of {low:g} or {upper}, or a range such as [{low:g}, {low + 1:g}].")


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Independent normal noise on every channel of every pixel.

    Args:
        std: standard deviation, of 255; 0 or more.

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
    """Blur as of a lens that is out of focus; the border is reflected.

    Args:
        sigma: standard deviation of the kernel in pixels; 0 or more.

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
        """Convolve with a normal density that is cut off at three standard deviations."""
        radius = min(math.ceil(3 * strength), min(image.shape[1:]) - 1)
        if radius < 1:
            return image
        kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * strength**2))
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
        padded = functional.pad(image[:, None], [radius] * 4, mode="reflect")
        return functional.conv2d(functional.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


@dataclass(frozen=True)
class JPEG(Corruption):
    """Lossy compression, as in pictures from the web.

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
    """An exposure that is too short: less light in every pixel, counted before the curve of sRGB (IEC 61966-2-1).

    Real dark pictures are noisy, too: put `GaussianNoise` behind it.

    Args:
        exposure: share of the light that is left, from 0 to 1.

    Raises:
        UserError: exposure out of range.
    """

    exposure: Strength = 0.2

    def __post_init__(self) -> None:
        self._check("exposure", 0, 1)

    @property
    def strength(self) -> Strength:
        """The share of the light that is left."""
        return self.exposure

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Scale the light."""
        encoded = image.clamp(0, 255) / 255
        light = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4) * strength
        return 255 * torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@dataclass(frozen=True)
class Downscale(Corruption):
    """A smaller copy (bicubic, antialiased), as super-resolution starts from. The same factor for all samples.

    Args:
        factor: how many times smaller height and width get; they must be multiples of it.

    Raises:
        UserError: a factor below 2; and when images are no multiples of it.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise UserError(f"Downscale.factor is {self.factor}.", "Give 2 or more.")

    @property
    def strength(self) -> Strength:
        """The factor."""
        return self.factor

    def spoil(self, image: Tensor, strength: float, key: tuple[int, ...]) -> Tensor:
        """Resize."""
        height, width = image.shape[1:]
        if height % self.factor or width % self.factor:
            what = f"Downscale.factor is {self.factor} and the images have {height}x{width} pixels."
            raise UserError(what, f"Choose a size that is a multiple of {self.factor}.")
        size = (height // self.factor, width // self.factor)
        return functional.interpolate(image[None], size, mode="bicubic", align_corners=False, antialias=True)[0]


def corrupt(images: Tensor, corruptions: Sequence[Corruption], keys: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the images after all corruptions in order.

    Between the corruptions pixels are neither rounded nor clipped, except where JPEG needs it.

    Args:
        images: uint8 (B, C, H, W).
        corruptions: what to do to them.
        keys: B keys; what happens to an image depends on its own key alone.

    Returns:
        uint8 (B, C, h, w); smaller than the images after `Downscale`.
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
        if len(alpha) and isinstance(corruption, Downscale):
            alpha = corruption.spoil(alpha, strength, own)
    return torch.cat([color, alpha]) if len(alpha) else color


def _range(strength: Strength) -> tuple[float, float]:
    low, high = (strength, strength) if isinstance(strength, int | float) else strength
    return low, high


def _rounded(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)
