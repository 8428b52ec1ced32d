"""The size of a JPEG XL file from its header: the Pillow plugin would decode the whole file to get it.

Specification: ISO/IEC 18181-1:2024, annex D.2 (SizeHeader), and 18181-2 for the boxes.
"""

import struct
from fractions import Fraction
from typing import BinaryIO

_RATIOS = [Fraction(*sides) for sides in ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))]  # width : height
_LENGTHS = (9, 13, 18, 30)  # number of bits of a side
_HEADER = 16  # bytes within which a SizeHeader ends


def size(stream: BinaryIO) -> tuple[int, int]:
    """Return the width and height of the picture.

    Raises:
        ValueError: the file has no picture.
    """
    bits = _Bits(_codestream(stream)[2:])
    small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else 1 + bits.take(_LENGTHS[bits.take(2)])

    height = side()
    ratio = bits.take(3)
    width = int(height * _RATIOS[ratio - 1]) if ratio else side()
    return width, height


class _Bits:
    """Reads numbers from a bit stream, lowest bits first."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        number = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return number


def _codestream(stream: BinaryIO) -> bytes:
    """Return the first bytes of the codestream, which may be inside a box."""
    stream.seek(0)
    head = stream.read(_HEADER)
    place = 0
    while not head.startswith(b"\xff\x0a"):
        stream.seek(place)
        head = stream.read(16)
        if len(head) < 16:
            raise ValueError("it has no picture")
        length, name = struct.unpack(">I4s", head[:8])
        begin = place + 8
        if length == 1:
            length, begin = int.from_bytes(head[8:16], "big"), place + 16
        if name in (b"jxlc", b"jxlp"):
            stream.seek(begin + (4 if name == b"jxlp" else 0))  # partial boxes begin with a number
            return stream.read(_HEADER)
        if length < 8:
            raise ValueError("it has no picture")
        place += length
    return head
