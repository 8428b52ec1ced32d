"""A JPEG writer for tests: blocks of one colour, with any components, precision and markers.

Written after ITU-T T.81. Each block has its mean alone, so that a decoder can give exactly one picture.
"""

import struct
from collections.abc import Sequence

import numpy as np


def jpeg(
    levels: np.ndarray,
    *,
    precision: int = 8,
    ids: Sequence[int] = (1, 2, 3, 4),
    markers: bytes = b"",
    frame: int = 0xC0,
    jfif: bool = False,
) -> bytes:
    """Return the bytes of a file.

    Args:
        levels: (H, W, C) of the components, a block of 8x8 pixels each.
        precision: bits of a sample.
        ids: of the components.
        markers: those after the first one.
        frame: the marker of the frame: 0xC0 baseline, 0xC1 extended, 0xC3 lossless.
        jfif: whether the file says that it is a JFIF.
    """
    height, width, count = levels.shape
    out = b"\xff\xd8" + (marker(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") if jfif else b"") + markers
    out += marker(0xDB, b"\0" + bytes([1] * 64))
    components = b"".join(bytes([number, 0x11, 0]) for number in ids[:count])
    out += marker(frame, struct.pack(">BHHB", precision, 8 * height, 8 * width, count) + components)
    sizes = bytes(range(16))  # a code of five bits for each size of a mean
    out += marker(0xC4, b"\0" + bytes([0, 0, 0, 0, 16] + [0] * 11) + sizes)
    out += marker(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")  # the only code: the rest of the block is zero
    out += marker(0xDA, bytes([count]) + b"".join(bytes([number, 0]) for number in ids[:count]) + b"\0\x3f\0")
    bits, before = [], [0] * count
    for pixel in levels.reshape(-1, count).astype(int).tolist():
        for place, level in enumerate(pixel):
            mean = 8 * (level - 2 ** (precision - 1))
            bits.append(_mean(mean - before[place]) + "0")
            before[place] = mean
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big")
    return out + scan.replace(b"\xff", b"\xff\0") + b"\xff\xd9"


def marker(code: int, body: bytes) -> bytes:
    """Return a marker segment."""
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def adobe(transform: int) -> bytes:
    """Return Adobe's marker, which says what the components are: 0 as they are, 1 YCbCr, 2 YCCK."""
    return marker(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def icc_markers(profile: bytes) -> bytes:
    """Return the markers of an ICC profile."""
    parts = [profile[n : n + 60000] for n in range(0, len(profile), 60000)]
    heads = [b"ICC_PROFILE\0" + bytes([number, len(parts)]) for number in range(1, len(parts) + 1)]
    return b"".join(marker(0xE2, head + part) for head, part in zip(heads, parts, strict=True))


def _mean(difference: int) -> str:
    size = abs(difference).bit_length()
    value = difference if difference >= 0 else difference + 2**size - 1
    return f"{size:05b}" + (f"{value:0{size}b}" if size else "")
