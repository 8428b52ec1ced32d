"""A PNG writer for tests: any colour type, bit depth, interlace method and filter, with any chunks.

Written after the PNG specification (third edition, W3C 2025): files do not depend on the readers that they test.
"""

import struct
import zlib
from collections.abc import Mapping

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
#: Bit depths that the specification allows for each colour type.
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
#: Samples of a pixel.
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(
    samples: np.ndarray,
    depth: int,
    color_type: int,
    *,
    interlaced: bool = False,
    chunks: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """Return the bytes of a file; its rows take turns with the five filters.

    Args:
        samples: (H, W, S), integers below 2 ** depth.
        depth: bits of a sample.
        color_type: one of the constants above.
        interlaced: by Adam7.
        chunks: those between IHDR and IDAT, in their order.
    """
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    starts = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    passes = [samples[top::down, left::right] for top, left, down, right in starts]
    data = b"".join(_filtered(part, depth) for part in passes if part.size)
    parts = [chunk(b"IHDR", header), *(chunk(name, body) for name, body in (chunks or {}).items())]
    return b"".join([SIGNATURE, *parts, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")])


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and check sum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def icc_chunk(profile: bytes) -> bytes:
    """Return the body of an iCCP chunk."""
    return b"test\0\0" + zlib.compress(profile)


def _filtered(samples: np.ndarray, depth: int) -> bytes:
    height, _, count = samples.shape
    shifts = np.arange(depth - 1, -1, -1)
    ones = (samples.astype(np.int64).reshape(height, -1, 1) >> shifts & 1).astype(np.uint8)
    rows = np.packbits(ones.reshape(height, -1), axis=1).astype(np.int64)
    step = max(1, depth * count // 8)
    left, above, corner = np.zeros_like(rows), np.zeros_like(rows), np.zeros_like(rows)
    left[:, step:], above[1:], corner[1:, step:] = rows[:, :-step], rows[:-1], rows[:-1, :-step]
    guess = left + above - corner
    distances = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    guesses = [0 * rows, left, above, (left + above) // 2, paeth]
    return b"".join(
        bytes([row % 5]) + ((rows[row] - guesses[row % 5][row]) % 256).astype(np.uint8).tobytes()
        for row in range(height)
    )
