"""Interpretation of TIFF samples: grey, RGB, palettes, inks, luma and chroma, L*a*b*, and transparency.

Specification: TIFF 6.0 (Adobe, 1992), sections 8, 16, 18 and 20 to 23, and Adobe Photoshop TIFF Technical Notes (2002)
for ICC L*a*b*.
"""

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from aigc_lightning.data.decoding.formats import RefusedError
from aigc_lightning.data.decoding.raster import (
    Array,
    Raster,
    eight_bit,
    float_levels,
    in_bands,
    lab_to_srgb,
    signed_levels,
    unsigned_levels,
    without_alpha,
)
from aigc_lightning.data.decoding.remarks import remark
from aigc_lightning.data.decoding.tiff import FLOAT, SIGNED, UNSIGNED, Page, first_page

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _INKS, _YCBCR, _CIELAB, _ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _INKS: 4, _YCBCR: 3, _CIELAB: 3, _ICCLAB: 3}
_NAMES = {_RGB: "RGB", _PALETTE: "P", _INKS: "CMYK", _YCBCR: "YCbCr", _CIELAB: "LAB", _ICCLAB: "LAB"}
_OTHERS = {4: "transparency mask", 10: "ITU L*a*b*", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv"}
_OTHERS |= {34892: "linear raw"}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: premultiplied alpha, or not premultiplied

# Tag numbers.
_PHOTOMETRIC, _COLOR_MAP, _INK_SET, _EXTRA_SAMPLES = 262, 320, 332, 338
_COEFFICIENTS, _REFERENCE = 529, 532


def raster(page: Page) -> Raster:
    """Return the colours and the transparency of a page.

    Raises:
        RefusedError: its colours or the range of its samples are unknown.
        ValueError: it is inconsistent.
    """
    photometric = page.tags.get(_PHOTOMETRIC, _RGB if page.samples.shape[2] >= 3 else _BLACK_IS_ZERO)
    if photometric not in _COLORS:
        name = _OTHERS.get(photometric, f"number {photometric}")
        raise RefusedError(f"a TIFF with the photometric interpretation {name}, which is not supported")
    if photometric == _INKS and page.tags.get(_INK_SET, 1) != 1:
        raise RefusedError("a TIFF with inks other than CMYK, which is not supported")
    count = _COLORS[photometric]
    if page.samples.shape[2] < count:
        raise ValueError(f"it has {page.samples.shape[2]} samples per pixel, but its colours take {count}")
    stored, alpha = page.samples[:, :, :count], None
    place, kind = _alpha(page, photometric, count)
    if place is not None:
        alpha = _levels(page.samples[:, :, place : place + 1], page)[:, :, 0]
    if photometric == _PALETTE:
        color = _from_palette(stored[:, :, 0], page)
    elif photometric in (_CIELAB, _ICCLAB):
        color = _from_lab(stored, page, photometric)
    else:
        color = _levels(stored, page)
        if photometric == _YCBCR:
            color = _from_ycbcr(color, page)
        if alpha is not None and kind == _ASSOCIATED:
            color = without_alpha(color, alpha)
        if photometric == _WHITE_IS_ZERO:
            color = ~color
    if alpha is not None and alpha.dtype != color.dtype:
        alpha = eight_bit(alpha)
    return Raster(color, alpha, _kind(page.bits, page.sample_format, photometric))


def header(stream: BinaryIO) -> tuple[int, int, str]:
    """Return height, width and pixel mode of a file."""
    page = first_page(stream)
    photometric = int(page.photometric)
    if not isinstance(page.bitspersample, int):
        return page.imagelength, page.imagewidth, "samples that differ"
    return page.imagelength, page.imagewidth, _kind(page.bitspersample, int(page.sampleformat), photometric)


def _levels(samples: Array, page: Page) -> Array:
    if page.sample_format == FLOAT:
        return float_levels(samples)
    if page.sample_format == SIGNED:
        return signed_levels(samples, page.bits)
    return unsigned_levels(samples, page.bits)


def _alpha(page: Page, photometric: int, count: int) -> tuple[int | None, int]:
    """Return the index of the alpha sample, or None, and whether colours are premultiplied."""
    total = page.samples.shape[2]
    kinds = _tuple(page.tags.get(_EXTRA_SAMPLES, ()))
    if not kinds and photometric == _RGB and total == count + 1:  # the tag is missing, but it cannot be anything else
        kinds = (_UNASSOCIATED,)
    kinds = (*kinds, *[0] * total)[: total - count]
    found = [place for place, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    left_out = len(kinds) - bool(found)
    if left_out:
        remark(f"{left_out} sample(s) per pixel of unknown meaning were ignored")
    return (count + found[0], kinds[found[0]]) if found else (None, 0)


def _from_palette(numbers: Array, page: Page) -> Array:
    entries = np.ravel(page.tags.get(_COLOR_MAP, ()))
    if page.sample_format != UNSIGNED or page.bits > 16:
        raise RefusedError(f"a TIFF with a palette of {page.bits} bits, which is not supported")
    if len(entries) != 3 * 2**page.bits:
        raise ValueError(f"its palette has {len(entries)} numbers, but {page.bits} bits take {3 * 2**page.bits}")
    # Entries have 16 bits; some writers used only 8.
    colors = entries.astype(np.uint8) if entries.max() < 256 else eight_bit(entries.astype(np.uint16))
    return np.asarray(colors.reshape(3, -1).T[numbers])


def _from_lab(samples: Array, page: Page, photometric: int) -> Array:
    if page.sample_format != UNSIGNED or page.bits not in (8, 16):
        raise RefusedError(
            f"an L*a*b* TIFF with {page.bits} bits in format {page.sample_format}, which is not supported"
        )
    steps = 2 ** (page.bits - 8)
    if photometric == _CIELAB:

        def converted(part: Array) -> Array:
            signed = part.view(f"i{part.dtype.itemsize}").astype(np.float64)
            return lab_to_srgb(
                part[:, :, 0] * (100 / (256 * steps - 1)), signed[:, :, 1] / steps, signed[:, :, 2] / steps
            )
    else:

        def converted(part: Array) -> Array:
            numbers = part.astype(np.float64) / steps
            return lab_to_srgb(numbers[:, :, 0] * (100 / 255), numbers[:, :, 1] - 128, numbers[:, :, 2] - 128)

    return in_bands(converted, np.ascontiguousarray(samples))


def _from_ycbcr(levels: Array, page: Page) -> Array:
    """Convert luma and chroma (H, W, 3) to RGB; formulas in section 21."""
    top = 255 if levels.dtype == np.uint8 else 65535
    middle = (top + 1) // 2
    red, green, blue = _rationals(page.tags.get(_COEFFICIENTS), (0.299, 0.587, 0.114))
    range_of = np.array(_rationals(page.tags.get(_REFERENCE), (0, top, middle, top, middle, top))).reshape(3, 2)
    black, white = range_of.T
    if (white == black).any() or not green:
        raise ValueError("its range of luma and chroma is empty")

    def converted(part: Array) -> Array:
        scaled = (part - black) * (np.array([top, middle - 1, middle - 1]) / (white - black))
        y, cb, cr = np.moveaxis(scaled, 2, 0)
        r, b = y + (2 - 2 * red) * cr, y + (2 - 2 * blue) * cb
        rgb = np.stack([r, (y - red * r - blue * b) / green, b], axis=2)
        return np.asarray(rgb.round().clip(0, top).astype(levels.dtype))

    return in_bands(converted, levels)


def _rationals(value: Any, default: Sequence[float]) -> Sequence[float]:
    """Return a tag of rational numbers, stored as alternating numerators and denominators."""
    numbers = _tuple(value) if value is not None else ()
    if len(numbers) != 2 * len(default) or not all(numbers[1::2]):
        return default
    return [above / below for above, below in zip(numbers[::2], numbers[1::2], strict=True)]


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,)


def _kind(bits: int, sample_format: int, photometric: int) -> str:
    name = _NAMES.get(photometric, "L")
    if sample_format == FLOAT:
        return f"{name} float{bits}"
    if sample_format == SIGNED:
        return f"{name} signed {bits}-bit"
    if bits == 1 and name == "L":
        return "1"
    return name if bits <= 8 else f"{name} {bits}-bit"
