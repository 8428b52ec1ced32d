"""PNG files."""

import struct
from collections.abc import Iterator
from itertools import product

import numpy as np

from image_files import expected
from image_files.icc_writer import DISPLAY_P3, grey_profile, rgb_profile
from image_files.png_writer import DEPTHS, GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, SAMPLES, chunk, icc_chunk, png
from image_files.table import Case, Row, noise

_HEIGHT, _WIDTH = 13, 15
_NAMES = {GREY: "grey", RGB: "RGB", PALETTE: "palette", GREY_ALPHA: "grey with alpha", RGB_ALPHA: "RGB with alpha"}
_P3, _GREY_PROFILE = rgb_profile(DISPLAY_P3, 2.2), grey_profile(1.8)
_GAMMAS = (45455, 100000, 55556)


def rows() -> list[Row]:
    """Return the rows of the table."""
    return [
        Row(
            "PNG",
            "all colour types and bit depths, with a transparency chunk (of greys and RGB as well) or without, "
            "interlaced or not",
            "a transparent colour is compared with all of its bits",
            _plain,
        ),
        Row(
            "PNG",
            "gAMA of 1/2.2, 1 and 1/1.8, sRGB, iCCP, and several of them",
            "iCCP counts before sRGB, and that before gAMA; a level v from 0 to 1 becomes v^(0.45455/gAMA), unless "
            "gAMA is within 5 % of 0.45455",
            _colors,
        ),
        Row("PNG", "animated", "the picture that is shown without animation", _animated),
        Row("PNG", "cut or damaged", "**refused** as a broken PNG", _broken),
    ]


def _plain() -> Iterator[Case]:
    for color_type, depths in DEPTHS.items():
        for depth, transparent, interlaced in product(depths, (False, True), (False, True)):
            if transparent and color_type in (GREY_ALPHA, RGB_ALPHA):
                continue
            for colors in ("", "sRGB"):
                yield _case(color_type, depth, transparent, interlaced, {b"sRGB": b"\0"} if colors else {}, colors)


def _colors() -> Iterator[Case]:
    for color_type, depths in DEPTHS.items():
        for depth, interlaced, gamma in product(depths, (False, True), _GAMMAS):
            body = struct.pack(">I", gamma)
            yield _case(color_type, depth, False, interlaced, {b"gAMA": body}, f"gAMA {gamma}", gamma)
            yield _case(color_type, depth, False, interlaced, {b"gAMA": body, b"sRGB": b"\0"}, f"gAMA {gamma} and sRGB")
        for depth, transparent in product(depths, (False, True)):
            if transparent and color_type in (GREY_ALPHA, RGB_ALPHA):
                continue
            profile = _GREY_PROFILE if color_type in (GREY, GREY_ALPHA) else _P3
            chunks = {b"iCCP": icc_chunk(profile), b"sRGB": b"\0", b"gAMA": struct.pack(">I", 100000)}
            yield _case(color_type, depth, transparent, False, chunks, "iCCP, sRGB and gAMA", profile=True)


def _case(
    color_type: int,
    depth: int,
    transparent: bool,
    interlaced: bool,
    chunks: dict[bytes, bytes],
    colors: str,
    gamma: int = 45455,
    profile: bool = False,
) -> Case:
    name = f"{_NAMES[color_type]} {depth}-bit{', tRNS' * transparent}{', interlaced' * interlaced} {colors}"
    samples = noise(_HEIGHT, _WIDTH, SAMPLES[color_type], 2**depth, seed=depth)
    chunks = dict(chunks)
    alpha = None
    if color_type == PALETTE:
        palette = noise(2**depth, 3, 1, seed=1)[:, :, 0]
        chunks[b"PLTE"] = palette.astype(np.uint8).tobytes()
        levels = (palette / 255)[samples[:, :, 0].astype(int)]
        if transparent:
            opacity = noise(2**depth, 1, 1, seed=2)[:, 0, 0]
            chunks[b"tRNS"] = opacity.astype(np.uint8).tobytes()
            alpha = (opacity / 255)[samples[:, :, 0].astype(int)]
    else:
        if transparent:
            alpha, chunks[b"tRNS"] = _key(samples, depth)
        levels = expected.scaled(samples, depth)
        if color_type in (GREY_ALPHA, RGB_ALPHA):
            levels, alpha = levels[:, :, :-1], levels[:, :, -1]
    if abs(gamma / 45455 - 1) > 0.05:
        levels = levels ** (45455 / gamma)
    if profile:
        levels = (
            expected.encoded(levels**1.8)
            if levels.shape[2] == 1
            else expected.from_rgb_profile(levels, DISPLAY_P3, 2.2)
        )
    shown = expected.picture(levels, alpha)
    return Case(
        name, png(samples, depth, color_type, interlaced=interlaced, chunks=chunks), shown, levels=2 if profile else 1
    )


def _key(samples: np.ndarray, depth: int) -> tuple[np.ndarray, bytes]:
    """Return alpha and the tRNS chunk of a colour that some pixels have, and which others miss by their last bit."""
    key = samples[0, 0].copy()
    samples[3:6, 3:6] = key
    samples[7:9, 7:9] = key
    samples[7:9, 7:9, 0] ^= np.uint64(1)
    alpha = 1 - (samples == key).all(axis=2).astype(float)
    return alpha, struct.pack(f">{len(key)}H", *key.tolist())


def _animated() -> Iterator[Case]:
    """The first picture is a frame of the animation, or stands for it."""
    for counted in (False, True):
        samples = noise(_HEIGHT, _WIDTH, 3)
        control = chunk(b"acTL", struct.pack(">II", 1 + counted, 0))
        size = (_WIDTH, _HEIGHT, 0, 0, 1, 10, 0, 0)
        frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *size))
        whole = png(samples, 8, RGB)
        begin, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
        other = png(255 - samples, 8, RGB)
        moved = other[other.index(b"IDAT") + 4 : other.index(b"IEND") - 8]
        second = chunk(b"fcTL", struct.pack(">IIIIIHHBB", int(counted), *size)) + chunk(
            b"fdAT", struct.pack(">I", 1 + counted) + moved
        )
        data = whole[:begin] + control + frame * counted + whole[begin:end] + second + whole[end:]
        yield Case(
            f"animated, the first picture {'belongs to' if counted else 'stands for'} it",
            data,
            expected.picture(samples / 255),
        )


def _broken() -> Iterator[Case]:
    for color_type, depths in DEPTHS.items():
        for depth, interlaced in product(depths, (False, True)):
            whole = _case(color_type, depth, False, interlaced, {}, "").data
            name = f"{_NAMES[color_type]} {depth}-bit{', interlaced' * interlaced}"
            for length in (8, 20, len(whole) // 2, len(whole) - 30):
                yield Case(f"{name}, cut after {length} bytes", whole[:length], refusal="a broken PNG")
            begin = whole.index(b"IDAT") + 8
            spoilt = whole[:begin] + bytes(byte ^ 0x5A for byte in whole[begin : begin + 9]) + whole[begin + 9 :]
            yield Case(f"{name}, damaged", spoilt, refusal="a broken PNG")
            header = whole[:18] + bytes([whole[18] ^ 1]) + whole[19:]
            yield Case(f"{name}, damaged header", header, refusal="a broken PNG")
