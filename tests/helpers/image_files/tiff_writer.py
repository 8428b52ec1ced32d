"""A TIFF writer for tests: any number of bits, sample format, photometric, layout, compression and byte order.

Written after the TIFF 6.0 specification (Adobe, 1992), its technical notes, and the BigTIFF design: files do not depend
on the readers that they test.
"""

import io
import lzma
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

#: Values of the tag Compression by the names that the table uses.
COMPRESSIONS = {
    "none": 1,
    "CCITT RLE": 2,
    "CCITT T.4": 3,
    "CCITT T.6": 4,
    "LZW": 5,
    "old JPEG": 6,
    "JPEG": 7,
    "Deflate": 8,
    "PackBits": 32773,
    "Deflate (old number)": 32946,
    "LZMA": 34925,
    "ZSTD": 50000,
    "WebP": 50001,
}
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3


def tiff(
    samples: np.ndarray,
    bits: int,
    *,
    sample_format: int = _UNSIGNED,
    photometric: int = 1,
    planar: int = 1,
    compression: str = "none",
    order: str = "<",
    big: bool = False,
    tile: tuple[int, int] | None = None,
    rows_per_strip: int | None = None,
    predictor: int = 1,
    fill_order: int = 1,
    tags: Mapping[int, tuple[str, Sequence[int] | bytes]] | None = None,
    pages: int = 1,
) -> bytes:
    """Return the bytes of a file.

    Args:
        samples: (H, W, S); integers, also negative ones, or floating-point numbers.
        bits: of each sample.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        photometric: PhotometricInterpretation.
        planar: 1 for samples beside each other, 2 for planes.
        compression: a name in `COMPRESSIONS`.
        order: "<" or ">".
        big: as BigTIFF.
        tile: (height, width) in multiples of 16.
        rows_per_strip: all in one strip when None.
        predictor: 1, 2 or 3.
        fill_order: 2 stores the bits of each byte in reverse.
        tags: other tags, or other values of these, as (type, values) with a type of `_TYPES`.
        pages: the later ones are white on black noise.
    """
    stream = io.BytesIO()
    mark = b"II" if order == "<" else b"MM"
    stream.write(mark + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)))
    place = stream.tell() - (8 if big else 4)
    for page in range(pages):
        shown = samples if page == 0 else samples[::-1, ::-1]
        entries = _entries(shown, bits, sample_format, photometric, planar, compression, predictor, fill_order)
        data = _segments(shown, bits, sample_format, planar, order, tile, rows_per_strip, predictor)
        segments = [_compressed(part, compression, width, rows) for part, width, rows in data]
        if fill_order == 2:
            segments = [_reversed_bits(segment) for segment in segments]
        offsets = []
        for segment in segments:
            offsets.append(stream.seek(0, 2))
            stream.write(segment + b"\0" * (len(segment) % 2))
        kind = "Q" if big else "I"
        first, counts = (324, 325) if tile else (273, 279)
        entries[first], entries[counts] = (kind, offsets), (kind, [len(segment) for segment in segments])
        if tile:
            entries[322], entries[323] = ("I", [tile[1]]), ("I", [tile[0]])
        else:
            entries[278] = ("I", [rows_per_strip or len(samples)])
        place = _write_directory(stream, entries | dict(tags or {}), order, big, place)
    return stream.getvalue()


_TYPES = {"B": 1, "A": 2, "H": 3, "I": 4, "R": 5, "U": 7, "Q": 16}  # R: pairs of I


def _entries(
    samples: np.ndarray, bits: int, sample_format: int, photometric: int, planar: int, compression: str, *how: int
) -> dict[int, Any]:
    height, width, count = samples.shape
    predictor, fill_order = how
    entries: dict[int, Any] = {256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * count)}
    entries |= {259: ("H", [COMPRESSIONS[compression]]), 262: ("H", [photometric]), 277: ("H", [count])}
    entries[284] = ("H", [planar])
    if sample_format != _UNSIGNED:
        entries[339] = ("H", [sample_format] * count)
    if predictor != 1:
        entries[317] = ("H", [predictor])
    if fill_order != 1:
        entries[266] = ("H", [fill_order])
    return entries


def _write_directory(stream: io.BytesIO, entries: dict[int, Any], order: str, big: bool, place: int) -> int:
    """Write a directory and its values, link it at `place`, and return the place of the link to the next one."""
    inline, pointer = (8, "Q") if big else (4, "I")
    rows = b""
    for tag, (kind, values) in sorted(entries.items()):
        raw = _packed(kind, values, order)
        count = len(raw) if kind in "BAU" else len(values) // (2 if kind == "R" else 1)
        if len(raw) > inline:
            offset = stream.seek(0, 2)
            stream.write(raw + b"\0" * (len(raw) % 2))
            raw = struct.pack(order + pointer, offset)
        rows += struct.pack(f"{order}HH{pointer}", tag, _TYPES[kind], count) + raw.ljust(inline, b"\0")
    begin = stream.seek(0, 2)
    stream.write(struct.pack(order + ("Q" if big else "H"), len(entries)) + rows)
    link = stream.tell()
    stream.write(struct.pack(order + pointer, 0))
    stream.seek(place)
    stream.write(struct.pack(order + pointer, begin))
    return link


def _packed(kind: str, values: Sequence[int] | bytes, order: str) -> bytes:
    if isinstance(values, bytes):
        return values
    return struct.pack(order + {"R": "I", "U": "B", "A": "B"}.get(kind, kind) * len(values), *values)


def _segments(
    samples: np.ndarray,
    bits: int,
    sample_format: int,
    planar: int,
    order: str,
    tile: tuple[int, int] | None,
    rows_per_strip: int | None,
    predictor: int,
) -> Iterable[tuple[bytes, int, int]]:
    """Yield the bytes of each strip or tile before compression, with its width and height."""
    planes = [samples] if planar == 1 else [samples[:, :, [number]] for number in range(samples.shape[2])]
    high, wide = tile or (rows_per_strip or len(samples), samples.shape[1])
    for plane in planes:
        for top in range(0, samples.shape[0], high):
            for left in range(0, samples.shape[1], wide):
                part = plane[top : top + high, left : left + wide]
                if tile:
                    part = np.pad(part, ((0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)), mode="edge")
                yield stored(part, bits, sample_format, order, predictor), part.shape[1], part.shape[0]


def stored(samples: np.ndarray, bits: int, sample_format: int, order: str, predictor: int = 1) -> bytes:
    """Return samples (H, W, S) as rows of packed bits, each row from a new byte on."""
    height, width, count = samples.shape
    if sample_format == _FLOAT:
        floats = samples.astype(f"{order}f{bits // 8}")
        if predictor == 3:  # TIFF Technical Note 3: bytes by significance, then differences along the row
            big = np.ascontiguousarray(floats.astype(f">f{bits // 8}")).view(np.uint8)
            planes = big.reshape(height, width * count, bits // 8).transpose(0, 2, 1).reshape(height, -1)
            before = np.zeros_like(planes)
            before[:, count:] = planes[:, :-count]
            return (planes - before).tobytes()
        if predictor == 1:
            return floats.tobytes()
        samples = floats.astype(f"=f{bits // 8}").view(f"=u{bits // 8}")
    values = samples.astype(np.uint64 if samples.dtype.kind == "u" else np.int64).view(np.uint64)
    if predictor == 2:
        values = values.copy()
        values[:, 1:] -= values[:, :-1].copy()
    values &= np.uint64(2**bits - 1)
    if bits % 8 == 0:
        raw = np.ascontiguousarray(values.astype(">u8")).view(np.uint8).reshape(-1, 8)[:, 8 - bits // 8 :]
        return np.ascontiguousarray(raw if order == ">" else raw[:, ::-1]).tobytes()
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    ones = ((values.reshape(height, -1, 1) >> shifts) & np.uint64(1)).astype(np.uint8)
    return np.packbits(ones.reshape(height, -1), axis=1).tobytes()


def _compressed(data: bytes, compression: str, width: int, height: int) -> bytes:
    if compression == "none":
        return data
    if compression.startswith("Deflate"):
        return zlib.compress(data)
    if compression == "LZMA":
        return lzma.compress(data)
    if compression == "PackBits":
        return b"".join(bytes([len(data[n : n + 128]) - 1]) + data[n : n + 128] for n in range(0, len(data), 128))
    if compression == "LZW":
        return _lzw(data)
    if compression == "ZSTD":
        return _from_pillow(data, "zstd", len(data), 1, "L")
    if compression.startswith("CCITT"):
        name = {"CCITT RLE": "tiff_ccitt", "CCITT T.4": "group3", "CCITT T.6": "group4"}[compression]
        return _from_pillow(data, name, width, height, "1")
    raise ValueError(compression)


def _lzw(data: bytes) -> bytes:
    """Return LZW of codes that stand for single bytes alone; a clear code before the codes would become wider."""
    codes = []
    for number, byte in enumerate(data):
        if number % 250 == 0:
            codes.append(256)
        codes.append(byte)
    ones = "".join(f"{code:09b}" for code in [*(codes or [256]), 257])
    ones += "0" * (-len(ones) % 8)
    return int(ones, 2).to_bytes(len(ones) // 8, "big")


@lru_cache(maxsize=1024)
def _from_pillow(data: bytes, compression: str, width: int, height: int, mode: str) -> bytes:
    """Return the only strip of a file that Pillow writes: byte streams do not depend on what the bytes mean."""
    stream = io.BytesIO()
    Image.frombytes(mode, (width, height), data).save(stream, "TIFF", compression=compression, tiffinfo={278: height})
    stream.seek(0)
    with TiffImagePlugin.TiffImageFile(stream) as image:
        offset, size = image.tag_v2[273], image.tag_v2[279]
    assert len(offset) == 1
    return stream.getvalue()[offset[0] : offset[0] + size[0]]


def _reversed_bits(data: bytes) -> bytes:
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes()
