"""Writers of BMP, TGA and PNM files for tests, in all the variants that are met."""

import struct
from collections.abc import Sequence

import numpy as np


def bmp(
    pixels: np.ndarray,
    bits: int,
    *,
    palette: np.ndarray | None = None,
    top_down: bool = False,
    masks: Sequence[int] = (),
    run_length: bool = False,
    old: bool = False,
) -> bytes:
    """Return a BMP file.

    Args:
        pixels: (H, W) numbers as they are stored: indices, or colours packed into `bits`.
        bits: of a pixel: 1, 4, 8, 16, 24 or 32.
        palette: uint8 (N, 3) RGB.
        top_down: store the top row first.
        masks: of red, green and blue, and alpha if there are four.
        run_length: compress, for 4 and 8 bits.
        old: with the header of OS/2 1.
    """
    height, width = pixels.shape
    rows = pixels if top_down else pixels[::-1]
    if run_length:
        data = b"".join(_runs(row, bits) for row in rows.tolist()) + b"\0\1"
    else:
        data = b"".join(_bmp_row(row, bits) for row in rows)
    colors = b""
    if palette is not None:
        fill = [b"", b"\0"][not old]
        colors = b"".join(bytes(entry[::-1]) + fill for entry in palette.tolist())
    compression = (1 if bits == 8 else 2) if run_length else 3 if masks else 0
    if old:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        size = 108 if masks else 40
        head = struct.pack(
            "<IiiHHIIiiII",
            size,
            width,
            -height if top_down else height,
            1,
            bits,
            compression,
            len(data),
            0,
            0,
            len(colors) // 4,
            0,
        )
        if masks:
            head += struct.pack("<4I", *(*masks, 0, 0)[:4]) + bytes(108 - 56)
    begin = 14 + len(head) + len(colors)
    return struct.pack("<2sIHHI", b"BM", begin + len(data), 0, 0, begin) + head + colors + data


def _bmp_row(row: np.ndarray, bits: int) -> bytes:
    if bits < 8:
        ones = (row[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
        data = np.packbits(ones.reshape(-1)).tobytes()
    else:
        data = b"".join(int(value).to_bytes(bits // 8, "little") for value in row)
    return data + bytes(-len(data) % 4)


def _runs(row: list[int], bits: int) -> bytes:
    out = b""
    for value in row:
        out += bytes([1, value if bits == 8 else value << 4])
    return out + b"\0\0"


def tga(
    pixels: np.ndarray,
    bits: int,
    kind: int,
    *,
    palette: np.ndarray | None = None,
    alpha_bits: int = 0,
    top_down: bool = False,
    footer: bool = False,
) -> bytes:
    """Return a TGA file.

    Args:
        pixels: (H, W) numbers as they are stored.
        bits: of a pixel.
        kind: 1 palette, 2 colour, 3 grey; 8 more where they are compressed.
        palette: uint8 (N, 3) RGB.
        alpha_bits: as the header says.
        top_down: store the top row first.
        footer: end as TGA 2.0.
    """
    height, width = pixels.shape
    size = bits // 8
    colors = b"" if palette is None else b"".join(bytes(entry[::-1]) for entry in palette.tolist())
    count = 0 if palette is None else len(palette)
    head = struct.pack(
        "<BBBHHBHHHHBB",
        0,
        int(count > 0),
        kind,
        0,
        count,
        24 if count else 0,
        0,
        0,
        width,
        height,
        bits,
        alpha_bits | 0x20 * top_down,
    )
    rows = pixels if top_down else pixels[::-1]
    stored = [int(value).to_bytes(size, "little") for value in rows.reshape(-1)]
    if kind > 8:
        stored = [b"\0" + value for value in stored]  # packets of one pixel
    end = bytes(8) + b"TRUEVISION-XFILE.\0" if footer else b""
    return head + colors + b"".join(stored) + end


def pnm(samples: np.ndarray, most: int, *, text: bool = False, comment: bool = False) -> bytes:
    """Return a PBM, PGM or PPM file.

    Args:
        samples: (H, W, 1 or 3); with `most` 0 it is a bitmap, in which 1 is black.
        most: the largest number, which is white.
        text: write numbers as text.
        comment: write one into the header.
    """
    height, width, count = samples.shape
    number = {(1, True): 1, (1, False): 2, (3, False): 3}[count, most == 0] + 3 * (not text)
    head = f"P{number}\n{'# made in a test' + chr(10) if comment else ''}{width} {height}\n" + (
        f"{most}\n" if most else ""
    )
    if text:
        return head.encode() + b"\n".join(
            b" ".join(b"%d" % value for value in row) for row in samples.reshape(height, -1)
        )
    if not most:
        return head.encode() + np.packbits(samples[:, :, 0].astype(np.uint8), axis=1).tobytes()
    return head.encode() + samples.astype(">u2" if most > 255 else np.uint8).tobytes()
