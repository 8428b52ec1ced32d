"""Pictures as numbers: levels of any depth, what they mean as colours, and how they become 8-bit pictures in sRGB.

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
_BAND = 2**20  # pixels whose colours are computed at once
_FLOAT_SLACK = 1 / 255  # by which floating-point levels may leave 0 to 1
# From CIE XYZ with the white D50 to linear sRGB, whose white is D65: Bradford's adaptation (ICC.1:2022, annex E) and
# the primaries of IEC 61966-2-1 in one matrix.
_XYZ_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


@dataclass(frozen=True)
class Raster:
    """A picture as its file has it, upright or not.

    Args:
        color: uint8 or uint16 (H, W, C); the largest number is white, or the most ink.
        alpha: of the same type (H, W), and colours not multiplied by it; None where all is opaque.
        kind: of the file's pixels, such as "RGB" or "L 12-bit".
    """

    color: Array
    alpha: Array | None
    kind: str

    def picture(self, profile: bytes | None, table: Array | None = None) -> Image.Image:
        """Return the picture in 8 bits, in mode L, LA, RGB, RGBA or CMYK.

        Args:
            profile: ICC profile to convert from; without one CMYK stays CMYK.
            table: uint8 level for each level instead.
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
    """Return inks of 16 bits (H, W, 4) that multiply as RGB; other colours as they are."""
    if color.shape[2] != 4:
        return color
    light = (65535 - color).astype(np.uint32)
    return np.asarray(((light[:, :, :3] * light[:, :, 3:] + 32767) // 65535).astype(np.uint16))


def eight_bit(levels: Array) -> npt.NDArray[np.uint8]:
    """Return levels of 16 bits with 8, rounded to the nearest; levels of 8 bits as they are."""
    if levels.dtype == np.uint8:
        return levels
    return np.asarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))


def unsigned_levels(numbers: Array, bits: int) -> Array:
    """Return numbers from 0 to 2 ** bits - 1 as uint8 levels where these are exact, otherwise as uint16.

    Raises:
        RefusedError: the numbers are so small that all of them would be black: their range is another one.
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
        raise RefusedError(f"its numbers reach {most} of {top}, and all of it would be black")
    return np.asarray((numbers >> np.array(bits - 16, numbers.dtype)).astype(np.uint16))


def signed_levels(numbers: Array, bits: int) -> Array:
    """Return signed numbers as uint16 levels: 0 is black, the largest number white.

    Raises:
        RefusedError: there are negative ones, for which there is no level.
    """
    least = int(numbers.min())
    if least < 0:
        raise RefusedError(f"it has signed samples, some of them negative (down to {least}), and 0 is black")
    return unsigned_levels(numbers.view(f"u{numbers.dtype.itemsize}"), bits - 1)


def float_levels(numbers: Array) -> Array:
    """Return floating-point numbers as uint16 levels: 0 is black, 1 is white.

    Raises:
        RefusedError: some lie outside.
    """
    least, most = float(numbers.min()), float(numbers.max())
    if not (least >= -_FLOAT_SLACK and most <= 1 + _FLOAT_SLACK):  # also where there are NaNs
        found = f"its floating-point numbers run from {least:.4g} to {most:.4g}"
        raise RefusedError(f"{found}, and they are read from 0 (black) to 1 (white)")
    scaled = np.clip(numbers, 0, 1).astype(np.float32) * np.float32(65535)
    return np.asarray(np.round(scaled).astype(np.uint16))


def without_alpha(color: Array, alpha: Array) -> Array:
    """Return colours that were multiplied by alpha (H, W) as they were before."""
    top = 255 if color.dtype == np.uint8 else 65535
    divisor = np.maximum(alpha, 1).astype(np.uint32)[:, :, None]
    restored: Array = np.minimum((color.astype(np.uint32) * top + divisor // 2) // divisor, top).astype(color.dtype)
    return restored


def lab_to_srgb(lightness: Array, a: Array, b: Array) -> npt.NDArray[np.uint8]:
    """Return CIE L*a*b* with the white D50, (H, W) each, as RGB (H, W, 3)."""
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=-1)
    linear = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50 @ _XYZ_TO_SRGB.T
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * encoded).astype(np.uint8))


def in_bands(function: Callable[..., Array], *arrays: Array) -> Array:
    """Return a function of arrays (H, W, ...) that takes more memory than they do: some rows after the other."""
    rows = max(1, _BAND // max(1, arrays[0].shape[1]))
    return np.concatenate(
        [function(*(array[top : top + rows] for array in arrays)) for top in range(0, len(arrays[0]), rows)]
    )


def _image(levels: Array) -> Image.Image:
    """Return levels of 8 bits (H, W, C) as a picture."""
    height, width, count = levels.shape
    pixels = np.ascontiguousarray(levels)
    return Image.frombuffer(_MODES[count], (width, height), pixels, "raw", _MODES[count], 0, 1)
