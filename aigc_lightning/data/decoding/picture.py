"""Opening any image file: the picture as a viewer shows it, with its metadata.

The only place that passes files to Pillow and to the readers of this package.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.data.decoding import jpeg_xl, png, tiff, tiff_colors
from aigc_lightning.data.decoding.formats import HEAD, Format, RefusedError, check_pixels, identify, open_with_pillow
from aigc_lightning.data.decoding.profiles import Shrink, gamma_table, to_srgb
from aigc_lightning.data.decoding.raster import Array, Raster, float_levels
from aigc_lightning.data.decoding.remarks import DamagedError, Listening, remark, watching_libtiff

Source = str | Path | bytes
Profile = Literal["srgb", "keep"]
PROFILES: tuple[Profile, ...] = ("srgb", "keep")

_ORIENTATION = 0x0112  # EXIF tag; its values say how to transform the stored picture to be upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # x and y of white, red, green and blue
_SAME_PRIMARY = 0.01
_PROFILE, _EXIF, _GPS = 34675, 34665, 34853  # TIFF tags
# 8-bit modes that Pillow can convert to RGBA.
_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"))
# How Pillow and libtiff report that they do not support an intact file.
_UNSUPPORTED = re.compile(r"^(cannot handle|unsupported|unknown)", re.IGNORECASE)
_NOT_BUILT = re.compile("not configured")


@dataclass(frozen=True)
class Picture:
    """An upright 8-bit picture.

    Args:
        image: in a Pillow mode that `convert` can turn into L, RGB and RGBA.
        kind: pixel mode of the file, such as "RGB", "P" (a palette) or "L 12-bit".
        profile: the file's ICC profile, or None.
        remarks: oddities of the file, as short sentences.
        exif: returns the EXIF tags; for TIFF files without the orientation.
    """

    image: Image.Image
    kind: str
    profile: bytes | None
    remarks: list[str]
    exif: Callable[[], Image.Exif]


class How(NamedTuple):
    """How to read a file.

    Args:
        max_pixels: reject files with more pixels, from their header.
        profile: "srgb" converts from the file's ICC profile or gamma, "keep" leaves the pixel values unchanged.
        shrink: shrinks a picture where that saves work, such as before its conversion to sRGB.
    """

    max_pixels: int
    profile: Profile = "srgb"
    shrink: Shrink | None = None


def load_picture(source: Source, how: How) -> Picture:
    """Return the picture of a file.

    Args:
        source: a path, or the bytes of a file.
        how: how to read it.

    Raises:
        ValueError: the file is damaged or not supported; the message gives the reason.
        OSError: it cannot be read.
    """
    with _opened(source) as stream, Listening() as remarks:
        head = stream.read(HEAD)
        format_ = identify(head, _name(source))
        stream.seek(0)
        try:
            image, kind, own_profile, exif = _read(stream, head, format_, how)
        except Exception as error:  # decoders may raise anything on damaged files
            raise _blame(format_, error) from error
    return Picture(image, kind, own_profile, remarks, exif or partial(_tags, source))


def header(path: Path) -> tuple[int, int, str]:
    """Return height, width and pixel mode of a file from its first bytes.

    Raises:
        ValueError: the file is damaged or not supported.
        OSError: it cannot be read.
    """
    with _opened(path) as stream, Listening():
        head = stream.read(HEAD)
        format_ = identify(head, _name(path))
        stream.seek(0)
        try:
            if format_.name == "TIFF":
                return tiff_colors.header(stream)
            image = open_with_pillow(format_, stream)
            return image.height, image.width, _kind(format_, image.mode, head)
        except Exception as error:
            raise _blame(format_, error) from error


def _opened(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    return open_regular(source)


def _name(source: Source) -> str | None:
    return None if isinstance(source, bytes) else str(source)


def _blame(format_: Format, error: Exception) -> Exception:
    """Return an error that names the format and says whether the file is damaged or not supported."""
    if isinstance(error, (RefusedError, MemoryError)) or (isinstance(error, OSError) and error.errno):
        return error
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if (_NOT_BUILT if isinstance(error, DamagedError) else _UNSUPPORTED).search(text):
        return RefusedError(f"a {format_.name} of a kind that is not supported: {text}")
    return ValueError(f"a broken {format_.name}: {text}")


def _tags(source: Source) -> Image.Exif:
    """Return the EXIF tags of a TIFF file, which is decoded upright; empty if they cannot be read."""
    tags = Image.Exif()
    with _opened(source) as stream, Listening():
        try:
            is_big = 43 in stream.read(4)[2:]  # BigTIFF, which Pillow supports only in part
            stream.seek(0)
            if is_big:
                page = tiff.first_page(stream)
                tags.update({tag.code: tag.value for tag in page.tags if isinstance(tag.value, str | int)})
            else:
                tags.load_from_fp(stream)
                for number in {_EXIF, _GPS} & {*tags}:  # loaded lazily by Pillow, but the file will be closed
                    tags.get_ifd(number)
        except Exception:  # Pillow supports fewer tags than tifffile
            return Image.Exif()
    tags.pop(_ORIENTATION, None)
    return tags


# An 8-bit picture, its pixel mode, its ICC profile, and the function that returns its EXIF tags if that is not `_tags`.
_Read = tuple[Image.Image, str, bytes | None, Callable[[], Image.Exif] | None]


def _read(stream: BinaryIO, head: bytes, format_: Format, how: How) -> _Read:
    if format_.name == "TIFF" and (page := tiff.read_page(stream, how.max_pixels)):
        return _from_page(page, how)
    if format_.name == "JPEG XL":  # which Pillow decodes on opening
        check_pixels(*jpeg_xl.size(stream), how.max_pixels)
    stream.seek(0)
    image = open_with_pillow(format_, stream)
    check_pixels(image.width, image.height, how.max_pixels)
    return _from_pillow(image, stream, head, format_, how)


def _from_page(page: tiff.Page, how: How) -> _Read:
    raster = tiff_colors.raster(page)
    profile = page.tags.get(_PROFILE)
    profile = bytes(profile) if profile else None
    converts = how.profile == "srgb" and not raster.kind.startswith("LAB")
    shown = raster.picture(profile if converts else None)
    return _turned(shown, page.orientation), raster.kind, profile, None


def _from_pillow(image: ImageFile.ImageFile, stream: BinaryIO, head: bytes, format_: Format, how: How) -> _Read:
    name, raster = format_.name, None
    converts = how.profile == "srgb"
    kind = _kind(format_, image.mode, head)
    if name == "PNG":
        ihdr = png.Header.of(head)
        png.scale_key(image, ihdr)
        raster = png.deep_raster(image, stream, ihdr) if ihdr.depth == 16 else None
    box = image.tile[0][1] if name == "GIF" else None
    if name == "TIFF":
        with watching_libtiff():
            image.load()
    else:
        image.load()
    # Readers that return upright pictures, such as those of TIFF and HEIC, drop the tag; that of JPEG XL does not.
    tags = image.getexif()
    orientation = tags.get(_ORIENTATION, 1) if name != "JPEG XL" else 1
    profile = _profile(image)
    if raster is None and image.mode not in _MODES:
        raster = _raster(image, kind, format_)
    used = profile if converts else None
    table = _gamma(image, 8 if raster is None else 16) if converts and profile is None and name == "PNG" else None
    if raster is not None:
        shown = _turned(raster.picture(used, table), orientation)
    else:
        shown = _turned(_plain(image, name, head, box), orientation)
        if used is not None or table is not None:
            shown = _converted(shown, used, table, how.shrink)
    return shown, kind, profile, None if name == "TIFF" else lambda: tags


def _kind(format_: Format, mode: str, head: bytes) -> str:
    """Describe the pixel mode of a file that Pillow opened."""
    if format_.name == "PNG" and (ihdr := png.Header.of(head)).depth == 16:
        return ihdr.kind
    return mode if mode in _MODES else "L float32" if mode == "F" else "L 16-bit" if mode.startswith("I") else mode


def _raster(image: Image.Image, kind: str, format_: Format) -> Raster:
    """Convert a picture of more than 8 bits as Pillow returns it."""
    if image.mode == "F":
        return Raster(float_levels(np.asarray(image))[:, :, None], None, kind)
    if image.mode != "I" and not image.mode.startswith("I;16"):
        raise RefusedError(f"a {format_.name} with pixels of the mode {image.mode}, which is not supported")
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise RefusedError("its pixels are 32-bit numbers of unknown range")
    return Raster(levels.astype(np.uint16)[:, :, None], None, kind)


def _plain(image: Image.Image, name: str, head: bytes, box: tuple[int, int, int, int] | None) -> Image.Image:
    """Return an 8-bit picture with its transparency as viewers show it.

    Args:
        image: as read by Pillow.
        name: name of its format.
        head: the first bytes of its file.
        box: left, top, right and bottom of the part of a GIF that its first frame covers.
    """
    if name == "TGA" and image.mode == "RGBA" and not head[17] & 15:  # the header says: no alpha bits
        return image.convert("RGB")
    if box is not None and box != (0, 0, *image.size):
        canvas = Image.new("RGBA", image.size)
        canvas.paste(image.convert("RGBA").crop(box), box)
        return canvas
    return image


def _converted(image: Image.Image, profile: bytes | None, table: Array | None, shrink: Shrink | None) -> Image.Image:
    """Convert an 8-bit picture to sRGB with its profile or with a lookup table."""
    if image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        grey = image.mode in ("1", "La")
        image = image.convert(("LA" if grey else "RGBA") if image.has_transparency_data else "L" if grey else "RGB")
    elif "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if profile is not None:
        return to_srgb(image, profile, shrink)
    assert table is not None
    colors = len(image.getbands()) - (image.mode in ("LA", "RGBA"))
    return image.point([*table.tolist() * colors, *range(256)][: 256 * len(image.getbands())])


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return profile
    if "icc_profile" in image.info:
        remark("its colour profile is broken and was not applied")
    return None


def _gamma(image: Image.Image, bits: int) -> Array | None:
    """Return the lookup table for a PNG's gAMA chunk; None if no conversion is needed."""
    if "srgb" in image.info:
        return None
    primaries = image.info.get("chromaticity", _SRGB_PRIMARIES)
    if any(abs(own - other) > _SAME_PRIMARY for own, other in zip(primaries, _SRGB_PRIMARIES, strict=True)):
        remark("its primaries (cHRM chunk) are not those of sRGB and were not applied")
    gamma = image.info.get("gamma")
    return gamma_table(gamma, bits) if gamma else None


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)
