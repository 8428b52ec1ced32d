"""PNG files of which Pillow keeps only 8 of 16 bits, or whose transparent colour it compares on the wrong scale.

Specification: PNG, third edition (W3C, 2025).
Shapes: H and W height and width in pixels.
"""

import io
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin

from aigc_lightning.data.decoding.raster import Array, Raster

_GREY, _RGB, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 4, 6
_KINDS = {_GREY: "L", _RGB: "RGB", _GREY_ALPHA: "LA", _RGB_ALPHA: "RGBA"}


class Header(NamedTuple):
    """Content of the first chunk.

    Args:
        depth: bits of a sample.
        color_type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
    """

    depth: int
    color_type: int

    @classmethod
    def of(cls, head: bytes) -> "Header":
        """Parse the header from a file's first bytes."""
        return cls(*head[24:26])

    @property
    def kind(self) -> str:
        """Description of 16-bit pixels."""
        return f"{_KINDS[self.color_type]} 16-bit"


def scale_key(image: Image.Image, header: Header) -> None:
    """Scale a file's transparent grey level as Pillow scales its pixels of 2 and 4 bits."""
    key = image.info.get("transparency")
    if header.color_type == _GREY and header.depth in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * (255 // (2**header.depth - 1))


def deep_raster(image: ImageFile.ImageFile, stream: BinaryIO, header: Header) -> Raster:
    """Return the picture of a file with 16 bits per sample.

    Args:
        image: the file as opened by Pillow.
        stream: the file.
        header: of the file.
    """
    mode = _KINDS[header.color_type]
    if header.color_type == _GREY:
        samples = np.asarray(image).astype(np.uint16)[:, :, None]
    elif header.color_type == _GREY_ALPHA:
        # Pixels with two 16-bit samples have the bytes of 8-bit RGBA, so reading them as such makes Pillow return all
        # bits.
        pixels = _decoded(_relabelled(stream, _RGB_ALPHA, 8), "RGBA")
        samples = _joined(pixels.reshape(*pixels.shape[:2], 2, 2))
    else:
        # Pillow keeps one of two bytes: the high one when reading "big-endian" numbers, the low one for
        # "little-endian".
        _unpack_as(image, f"{mode};16B")
        samples = _joined(np.stack([np.asarray(image), _decoded(stream, f"{mode};16L")], axis=-1))
    if header.color_type in (_GREY_ALPHA, _RGB_ALPHA):
        return Raster(samples[:, :, :-1], samples[:, :, -1], header.kind)
    key = image.info.get("transparency")
    if key is None:
        return Raster(samples, None, header.kind)
    hidden = (samples == np.array(key, np.uint16)).all(axis=2)
    return Raster(samples, np.where(hidden, 0, 65535).astype(np.uint16), header.kind)


def _decoded(stream: BinaryIO, raw_mode: str) -> Array:
    """Return the pixels of a file, unpacked by Pillow with this raw mode."""
    stream.seek(0)
    with PngImagePlugin.PngImageFile(stream) as image:
        _unpack_as(image, raw_mode)
        return np.asarray(image)


def _unpack_as(image: ImageFile.ImageFile, raw_mode: str) -> None:
    codec, box, offset, _ = image.tile[0]
    image.tile = [(codec, box, offset, raw_mode)]  # type: ignore[list-item]  # a tile's type differs by version


def _joined(halves: Array) -> Array:
    """Combine pairs of bytes, the high one first, into one number each."""
    return halves[..., 0].astype(np.uint16) << 8 | halves[..., 1]


def _relabelled(stream: BinaryIO, color_type: int, depth: int) -> BinaryIO:
    """Return a copy of a file with another header."""
    stream.seek(0)
    content = bytearray(stream.read())
    content[24:26] = depth, color_type
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return io.BytesIO(content)
