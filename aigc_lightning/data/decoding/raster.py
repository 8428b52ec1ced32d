"""Decoded pictures as arrays: levels of any depth, their colours, and the conversion to 8-bit sRGB.

Shapes: H and W height and width in pixels, C colours: 1 grey, 3 RGB, 4 CMYK.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigc_lightning.data.decoding.formats import RefusedError
from aigc_lightning.data.decoding.profiles import deep_to_srgb, to_srgb

Array = npt.NDArray[Any]

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_BAND = 2**20  # number of pixels converted at once
_FLOAT_SLACK = 1 / 255  # by which floating-point levels may exceed 0 to 1
# From CIE XYZ with white point D50 to linear sRGB with white point D65: Bradford adaptation (ICC.1:2022, annex E) and
# the primaries of IEC 61966-2-1 in one matrix.
_XYZ_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


@dataclass(frozen=True)
class Raster:
    """A picture as stored in its file, upright or not.

    Args:
        color: uint8 or uint16 (H, W, C); the largest value is white, or full ink.
        alpha: (H, W) of the same type, not premultiplied; None if everything is opaque.
        kind: pixel mode of the file, such as "RGB" or "L 12-bit".
    """

    color: Array
    alpha: Array | None
    kind: str

    def picture(self, profile: bytes | None, table: Array | None = None) -> Image.Image:
        """Return the 8-bit picture in mode L, LA, RGB, RGBA or CMYK.

        Args:
            profile: ICC profile to convert from; without one CMYK stays CMYK.
            table: a lookup table of uint8 levels to use instead.
        """
        if table is not None:
            image = _image(table[self.color])
        elif self.color.dtype == np.uint8:
            image = _image(self.color)
            image = image if profile is None else to_srgb(image, profile)
        else:
            converted = None if profile is None else deep_to_srgb(self.color, profile)
            image = _image(eight_bit(_multiplied(self.color)) if converted is None else converted)
        if self.alpha is not None:
            if image.mode == "CMYK":
                image = image.convert("RGB")
            image.putalpha(_image(eight_bit(self.alpha)[:, :, None]))
        return image


def _multiplied(color: Array) -> Array:
    """Convert multiplying 16-bit inks (H, W, 4) to RGB; return other colours unchanged."""
    if color.shape[2] != 4:
        return color
    light = (65535 - color).astype(np.uint32)
    return np.asarray(((light[:, :, :3] * light[:, :, 3:] + 32767) // 65535).astype(np.uint16))


def eight_bit(levels: Array) -> npt.NDArray[np.uint8]:
    """Round 16-bit levels to the nearest 8-bit ones; return 8-bit levels unchanged."""
    if levels.dtype == np.uint8:
        return levels
    return np.asarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))


def unsigned_levels(numbers: Array, bits: int) -> Array:
    """Return numbers from 0 to 2 ** bits - 1 as uint8 levels if that is exact, otherwise as uint16.

    Raises:
        RefusedError: the numbers are so small that all would be black, so their range must be another one.
    """
    if bits in (1, 2, 4):
        return np.asarray(numbers.astype(np.uint8) * np.uint8(255 // (2**bits - 1)))
    if bits in (8, 16):
        return numbers.astype(f"u{bits // 8}", copy=False)
    top = 2**bits - 1
    if bits < 16:
        return np.asarray(((numbers.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16))
    most = int(numbers.max())
    if 0 < most < 2 ** (bits - 9):
        raise RefusedError(f"its numbers reach {most} of {top}, so all of it would be black")
    return np.asarray((numbers >> np.array(bits - 16, numbers.dtype)).astype(np.uint16))


def signed_levels(numbers: Array, bits: int) -> Array:
    """Return signed numbers as uint16 levels: 0 is black, the largest number is white.

    Raises:
        RefusedError: some are negative, for which there is no level.
    """
    least = int(numbers.min())
    if least < 0:
        raise RefusedError(f"it has signed samples, some of them negative (down to {least}), but 0 is black")
    return unsigned_levels(numbers.view(f"u{numbers.dtype.itemsize}"), bits - 1)


def float_levels(numbers: Array) -> Array:
    """Return floating-point numbers as uint16 levels: 0 is black, 1 is white.

    Raises:
        RefusedError: some are outside this range.
    """
    least, most = float(numbers.min()), float(numbers.max())
    if not (least >= -_FLOAT_SLACK and most <= 1 + _FLOAT_SLACK):  # also true for NaNs
        found = f"its floating-point numbers run from {least:.4g} to {most:.4g}"
        raise RefusedError(f"{found}, but 0 is read as black and 1 as white")
    scaled = np.clip(numbers, 0, 1).astype(np.float32) * np.float32(65535)
    return np.asarray(np.round(scaled).astype(np.uint16))


def without_alpha(color: Array, alpha: Array) -> Array:
    """Undo the multiplication of colours by alpha (H, W)."""
    top = 255 if color.dtype == np.uint8 else 65535
    divisor = np.maximum(alpha, 1).astype(np.uint32)[:, :, None]
    restored: Array = np.minimum((color.astype(np.uint32) * top + divisor // 2) // divisor, top).astype(color.dtype)
    return restored


def lab_to_srgb(lightness: Array, a: Array, b: Array) -> npt.NDArray[np.uint8]:
    """Convert CIE L*a*b* with white point D50, (H, W) each, to RGB (H, W, 3)."""
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=-1)
    linear = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50 @ _XYZ_TO_SRGB.T
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * encoded).astype(np.uint8))


def in_bands(function: Callable[..., Array], *arrays: Array) -> Array:
    """Apply a memory-hungry function of arrays (H, W, ...) to a few rows at a time."""
    rows = max(1, _BAND // max(1, arrays[0].shape[1]))
    return np.concatenate(
        [function(*(array[top : top + rows] for array in arrays)) for top in range(0, len(arrays[0]), rows)]
    )


def _image(levels: Array) -> Image.Image:
    """Return 8-bit levels (H, W, C) as a picture."""
    height, width, count = levels.shape
    pixels = np.ascontiguousarray(levels)
    return Image.frombuffer(_MODES[count], (width, height), pixels, "raw", _MODES[count], 0, 1)
