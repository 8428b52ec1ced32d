"""Conversion from a file's ICC profile or gamma to sRGB, and back.

Conversions are relative colorimetric with black point compensation, by LittleCMS. Files without a profile are taken to
be sRGB, and CMYK ones to have multiplying inks.
"""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, features

from aigc_lightning.data.decoding.remarks import remark

Levels = npt.NDArray[np.uint8]
Deep = npt.NDArray[np.uint16]
Shrink = Callable[[Image.Image], Image.Image]

_BLACK_POINT_COMPENSATION, _NO_OPTIMIZATION, _FINE_GRID = 0x2000, 0x0100, 0x0400  # lcms2.h
_SPACES = {b"GRAY": ("L", "LA"), b"RGB ": ("RGB", "RGBA"), b"CMYK": ("CMYK",)}
_BAND = 2**20  # number of pixels interpolated at once
#: gAMA value of files that need no conversion: 1 / 2.2.
_SRGB_GAMMA = 0.45455
_SAME_GAMMA = 0.05  # libpng treats gammas that differ by less as equal


def to_srgb(image: Image.Image, profile: bytes, shrink: Shrink | None = None) -> Image.Image:
    """Convert a picture to sRGB, or return it unchanged if the profile cannot be applied.

    Args:
        image: in mode L, LA, RGB, RGBA or CMYK.
        profile: ICC profile.
        shrink: shrinks an RGB picture before the conversion, which takes longer than decoding a JPEG.
    """
    if not _fits(profile, image.mode):
        return image
    try:
        if image.mode in ("L", "LA"):
            table = _grey_table(profile)
            return image.point([*table, *range(256)][: 256 * len(image.getbands())])
        transform = _transform(profile, image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _remark_broken(error)
        return image
    if transform is None:
        return image
    return transform.apply(shrink(image) if shrink is not None and image.mode == "RGB" else image)


def deep_to_srgb(color: Deep, profile: bytes) -> Levels | None:
    """Convert 16-bit grey (H, W, 1), RGB (H, W, 3) or CMYK (H, W, 4) to sRGB; None if that is impossible.

    LittleCMS converts the 8-bit levels around each pixel, and the results are interpolated.
    """
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[color.shape[2]]
    if not _fits(profile, mode):
        return None
    try:
        if mode == "L":
            table = np.interp(np.arange(65536) / 257, np.arange(256), _grey_table(profile))
            return np.asarray(np.round(table).astype(np.uint8)[color])
        transform = _transform(profile, mode)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _remark_broken(error)
        return None
    if transform is None:
        return None
    rows = max(1, _BAND // color.shape[1])
    bands = [color[top : top + rows] for top in range(0, len(color), rows)]
    return np.concatenate([_interpolated(band, lambda levels: _applied(transform, levels)) for band in bands])


def is_for(profile: bytes, mode: str) -> bool:
    """Return whether a profile is for the colours of a Pillow mode, according to its header."""
    return mode in _SPACES.get(profile[16:20], ())


def from_srgb(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert a picture in mode L, RGB or RGBA from sRGB to a profile; None if that is impossible."""
    if not is_for(profile, picture.mode):
        return None
    try:
        source = _srgb()
        target = ImageCms.ImageCmsProfile(BytesIO(profile))
        if picture.mode == "L":
            ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))
            table = _built(source, target, "RGB", "L", exact=True).apply(ramp)
            return picture.point(np.asarray(table)[0].tolist())
        if _transform(profile, picture.mode) is None:
            return picture
        return _built(source, target, picture.mode, picture.mode).apply(picture)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def gamma_table(gamma: float, bits: int) -> Levels | None:
    """Return the lookup table for a PNG with this gAMA; None if no conversion is needed.

    Args:
        gamma: the exponent by which light was encoded, such as 1 for linear light.
        bits: bits per level, 8 or 16.
    """
    if gamma <= 0 or abs(gamma / _SRGB_GAMMA - 1) < _SAME_GAMMA:
        return None
    levels = np.arange(2**bits) / (2**bits - 1)
    return np.asarray(np.round(255 * levels ** (_SRGB_GAMMA / gamma)).astype(np.uint8))


def _fits(profile: bytes, mode: str) -> bool:
    space = profile[16:20]
    if not features.check("littlecms2"):
        remark("its colour profile was not applied: this Pillow was built without LittleCMS")
    elif space not in _SPACES or profile[36:40] != b"acsp":
        remark("its colour profile is broken or of an unknown kind and was not applied")
    elif mode not in _SPACES[space]:
        remark(f"its colour profile is for {space.decode().strip()} but its pixels are {mode}: it was not applied")
    else:
        return True
    return False


def _remark_broken(error: Exception) -> None:
    remark(f"its colour profile is broken and was not applied ({str(error) or type(error).__name__})")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB; None if no colour changes by more than one level, as with copies of sRGB."""
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    alpha = mode == "RGBA"
    transform = _built(source, _srgb(), mode, "RGBA" if alpha else "RGB")
    if mode == "CMYK":
        return transform
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    colors = np.concatenate([colors, np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)], axis=1)
    same = _applied(_transform(profile, "RGB"), colors) if alpha else _applied(transform, colors)
    return None if abs(same.astype(int) - colors).max() <= 1 else transform


@lru_cache(maxsize=32)
def _grey_table(profile: bytes) -> list[int]:
    """Return the sRGB level for each level of a grey profile."""
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    shown = _built(source, _srgb(), "L", "RGB", exact=True).apply(ramp)
    table: list[int] = np.asarray(shown)[0, :, 1].tolist()
    return table


def _built(
    source: ImageCms.ImageCmsProfile,
    target: ImageCms.ImageCmsProfile,
    source_mode: str,
    target_mode: str,
    *,
    exact: bool = False,
) -> ImageCms.ImageCmsTransform:
    flags = _BLACK_POINT_COMPENSATION | (_NO_OPTIMIZATION if exact else _FINE_GRID)
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    # The flags became an enumeration in Pillow 10.3.
    return ImageCms.buildTransform(source, target, source_mode, target_mode, intent, flags)  # type: ignore[arg-type]


def _applied(transform: ImageCms.ImageCmsTransform | None, levels: Levels) -> Levels:
    if transform is None:
        return levels
    mode = "CMYK" if levels.shape[2] == 4 else "RGB"
    return np.asarray(transform.apply(Image.frombuffer(mode, levels.shape[1::-1], np.ascontiguousarray(levels))))


def _interpolated(values: Deep, function: Callable[[Levels], Levels]) -> Levels:
    """Return a function of levels (H, W, C) at values of 16 bits, linear in each simplex between the levels."""
    scaled = values.astype(np.float32) / 257
    vertex = np.minimum(scaled, 254).astype(np.uint8)
    shares = scaled - vertex
    order = np.argsort(-shares, axis=2)
    steps = np.take_along_axis(shares, order, axis=2)
    result = function(vertex) * (1 - steps[:, :, :1])
    for place in range(values.shape[2]):
        channel = order[:, :, place : place + 1]
        np.put_along_axis(vertex, channel, np.take_along_axis(vertex, channel, axis=2) + 1, axis=2)
        following = steps[:, :, place + 1 : place + 2] if place + 1 < values.shape[2] else 0
        result += function(vertex) * (steps[:, :, place : place + 1] - following)
    return np.asarray(np.round(result).astype(np.uint8))
