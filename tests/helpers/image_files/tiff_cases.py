"""TIFF files."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import chain, product
from typing import Any

import numpy as np
from PIL import Image

from image_files import expected
from image_files.table import Case, Row, noise
from image_files.tiff_writer import tiff

_HEIGHT, _WIDTH = 19, 21  # more than a tile of 16x16, and no multiple of it
_BYTE_CODECS = ("none", "LZW", "Deflate", "Deflate (old number)", "PackBits", "LZMA", "ZSTD")
_LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"rows_per_strip": 5}, {"tile": (16, 16)}, {"tile": (32, 16)})
_PHOTOMETRICS = {"MinIsWhite": (0, 1), "MinIsBlack": (1, 1), "RGB": (2, 3), "CMYK": (5, 4)}
_UNSIGNED_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 30, 32, 64)
_SIGNED_BITS = (2, 4, 8, 12, 16, 24, 32, 64)
_FLOAT_BITS = (16, 32, 64)
_UNASSOCIATED, _ASSOCIATED, _UNSPECIFIED = 2, 1, 0


def rows() -> list[Row]:
    """Return the rows of the table."""
    return [
        Row(
            "TIFF",
            "unsigned integers of 1 to 32 or 64 bits, as grey (MinIsWhite or MinIsBlack), RGB or CMYK; uncompressed, "
            "LZW, Deflate, PackBits, LZMA or ZSTD; in strips or tiles, in one plane or one for each colour, in both "
            "byte and bit orders, with a predictor or without, as BigTIFF or not",
            "0 is black and 2ⁿ - 1 white; of CMYK the most ink",
            _unsigned,
            step=149,
        ),
        Row(
            "TIFF",
            "signed integers of 2 to 32 or 64 bits, as above",
            "0 is black, the largest number white",
            _signed,
            step=67,
        ),
        Row("TIFF", "floating point of 16, 32 or 64 bits, as above", "0 is black, 1 white", _floating, step=47),
        Row(
            "TIFF",
            "palettes of 1 to 16 bits, whose entries have 16 bits, or 8 from some writers",
            "the colours of the palette",
            _palettes,
        ),
        Row(
            "TIFF",
            "YCbCr of 8 or 16 bits with chroma of full, half or quarter resolution, coefficients and reference levels",
            "RGB",
            _ycbcr,
        ),
        Row("TIFF", "CIE L\\*a\\*b\\* and ICC L\\*a\\*b\\* of 8 or 16 bits", "sRGB, from the white D50", _lab),
        Row(
            "TIFF",
            "alpha, associated or not, and samples without a known meaning, of 1 to 32 bits or floating point",
            "colours are divided by associated alpha; samples without a known meaning are left out with a word",
            _alpha,
        ),
        Row("TIFF", "orientation 1 to 8, several pages", "upright, the first page", _orientation),
        Row("TIFF", "JPEG (grey, YCbCr, CMYK), CCITT RLE, T.4 and T.6", "as above", _image_codecs),
        Row(
            "TIFF",
            "integers of 24 bits or more that are so small that all would be black, negative numbers, floating point "
            "beyond 0 to 1",
            "**refused**: their range is not known",
            _unknown_ranges,
        ),
        Row(
            "TIFF",
            "complex numbers, floating point of 24 bits, samples that differ, inks other than CMYK, colour filter "
            "arrays, linear raw, LogL and LogLuv, ITU L\\*a\\*b\\*, masks, volumes, JPEG with 12 bits, LERC and "
            "all other compressions",
            "**refused** by name",
            _unsupported,
        ),
        Row("TIFF", "cut or damaged", "**refused** as a broken TIFF", _broken),
    ]


def _variants(bits: int, sample_format: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield how samples may be stored: the whole product."""
    predictors = [1]
    if sample_format == 3:
        predictors = [1, 2, 3]
    elif bits in (8, 16, 32, 64):
        predictors = [1, 2]
    for compression, layout, order, planar, predictor in product(_BYTE_CODECS, _LAYOUTS, "<>", (1, 2), predictors):
        if planar == 2 and count == 1:
            continue
        if predictor != 1 and compression in ("none", "PackBits"):
            continue
        # two axes that touch nothing else take turns
        yield {
            "compression": compression,
            **layout,
            "order": order,
            "planar": planar,
            "predictor": predictor,
            "fill_order": 1 + (len(compression) + bits + planar) % 2,
            "big": (bits + planar + (order == "<")) % 3 == 0,
        }


def _named(bits: int, photometric: str, how: dict[str, Any], kind: str = "") -> str:
    return f"{bits}-bit {kind}{photometric} {' '.join(f'{key}={value}' for key, value in how.items())}"


def _shown(levels: np.ndarray, photometric: str) -> np.ndarray:
    if photometric == "MinIsWhite":
        return expected.picture(1 - levels)
    return expected.picture(expected.inks(levels) if photometric == "CMYK" else levels)


def _numbers(samples: np.ndarray, bits: int, sample_format: int, kind: str) -> Iterator[Callable[[], Case]]:
    for photometric, (number, count) in _PHOTOMETRICS.items():
        for how in _variants(bits, sample_format, count):
            yield partial(_case, samples[:, :, :count], bits, sample_format, photometric, number, how, kind)


def _case(
    samples: np.ndarray, bits: int, sample_format: int, photometric: str, number: int, how: dict[str, Any], kind: str
) -> Case:
    shown = _shown(expected.scaled(samples, bits, sample_format), photometric)
    data = tiff(samples, bits, sample_format=sample_format, photometric=number, **how)
    return Case(_named(bits, photometric, how, kind), data, shown)


def _unsigned() -> Iterator[Callable[[], Case]]:
    made = (_numbers(noise(_HEIGHT, _WIDTH, 4, 2**bits, seed=bits), bits, 1, "") for bits in _UNSIGNED_BITS)
    return chain.from_iterable(made)


def _signed() -> Iterator[Callable[[], Case]]:
    samples = {bits: noise(_HEIGHT, _WIDTH, 4, 2 ** (bits - 1), seed=bits).astype(np.int64) for bits in _SIGNED_BITS}
    made = (_numbers(numbers, bits, 2, "signed ") for bits, numbers in samples.items())
    return chain.from_iterable(made)


def _floating() -> Iterator[Callable[[], Case]]:
    numbers = np.random.default_rng(0).random((_HEIGHT, _WIDTH, 4))
    made = (_numbers(numbers, bits, 3, "floating ") for bits in _FLOAT_BITS)
    return chain.from_iterable(made)


def _palettes() -> Iterator[Case]:
    for bits, order, compression, layout, old in product(
        (1, 2, 4, 8, 16), "<>", ("none", "LZW"), _LAYOUTS, (False, True)
    ):
        colors = noise(3, 2**bits, 1, 256 if old else 65536)[:, :, 0]
        numbers = noise(_HEIGHT, _WIDTH, 1, 2**bits, seed=1)
        shown = expected.picture((colors.T / (255 if old else 65535))[numbers[:, :, 0].astype(int)])
        tags = {320: ("H", colors.reshape(-1).tolist())}
        how = {"order": order, "compression": compression, **layout}
        yield Case(
            _named(bits, "palette", how, "old " * old), tiff(numbers, bits, photometric=3, tags=tags, **how), shown
        )


def _ycbcr() -> Iterator[Case]:
    for bits, order, compression, layout in product((8, 16), "<>", ("none", "LZW"), _LAYOUTS):
        how = {"order": order, "compression": compression, **layout}
        samples = noise(_HEIGHT, _WIDTH, 3, 2**bits).astype(np.float64)
        top, middle = 2**bits - 1, 2 ** (bits - 1)
        y, cb, cr = samples[:, :, 0] / top, *(samples[:, :, place] - middle for place in (1, 2))
        scale = (middle - 1) / top  # of chroma, by the formula of section 21
        shown = expected.picture(expected.ycbcr(y, cb / (middle - 1) * scale, cr / (middle - 1) * scale))
        tags: dict[int, Any] = {530: ("H", [1, 1])}
        whole = samples.astype(np.uint64)
        yield Case(_named(bits, "YCbCr", how), tiff(whole, bits, photometric=6, tags=tags, **how), shown)
        yield Case(
            _named(bits, "YCbCr", how, "planar "), tiff(whole, bits, photometric=6, planar=2, tags=tags, **how), shown
        )
    yield from _coefficients()
    for across, down, order, compression in product((1, 2, 4), (1, 2, 4), "<>", ("none", "Deflate")):
        if (across, down) != (1, 1):
            yield _subsampled(across, down, order, compression)


def _coefficients() -> Iterator[Case]:
    """The weights of BT.709 and the range of video, which have tags of their own."""
    samples = noise(_HEIGHT, _WIDTH, 3, 200).astype(np.float64) + 20
    weights = (2126, 10000, 7152, 10000, 722, 10000)
    limits = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    tags: dict[int, Any] = {530: ("H", [1, 1]), 529: ("R", weights), 532: ("R", limits)}
    y = (samples[:, :, 0] - 16) / 219
    cb, cr = ((samples[:, :, place] - 128) / 112 * 127 / 255 for place in (1, 2))
    shown = expected.picture(expected.ycbcr(y, cb, cr, (0.2126, 0.7152, 0.0722)).clip(0, 1))
    yield Case(
        "8-bit YCbCr of BT.709 in the range of video",
        tiff(samples.astype(np.uint64), 8, photometric=6, tags=tags),
        shown,
    )


def _subsampled(across: int, down: int, order: str, compression: str) -> Case:
    high, wide = -(-_HEIGHT // down), -(-_WIDTH // across)
    y = noise(high * down, wide * across, 1)[:, :, 0]
    chroma = noise(high, wide, 2, seed=1)
    luma = y.reshape(high, down, wide, across).transpose(0, 2, 1, 3).reshape(high, wide, -1)
    blocks = np.concatenate([luma, chroma], axis=2)
    # As rows of blocks, whose header then gets the size in pixels.
    tags: dict[int, Any] = {256: ("I", [_WIDTH]), 257: ("I", [_HEIGHT]), 258: ("H", [8, 8, 8]), 277: ("H", [3])}
    tags |= {278: ("I", [high * down]), 530: ("H", [across, down])}
    data = tiff(blocks, 8, photometric=6, order=order, compression=compression, tags=tags)
    full = chroma.repeat(down, axis=0).repeat(across, axis=1).astype(np.float64) - 128
    shown = expected.ycbcr(y / 255, full[:, :, 0] / 255, full[:, :, 1] / 255)[:_HEIGHT, :_WIDTH]
    return Case(f"YCbCr with chroma {across}x{down} {order} {compression}", data, expected.picture(shown))


def _lab() -> Iterator[Case]:
    for bits, order, planar, layout in product((8, 16), "<>", (1, 2), _LAYOUTS):
        steps = 2 ** (bits - 8)
        whole = noise(_HEIGHT, _WIDTH, 3, 2**bits)
        how = {"order": order, "planar": planar, **layout}
        signed = whole.astype(np.int64) - 2**bits * (whole >= 2 ** (bits - 1))
        lab = np.stack([whole[:, :, 0] * 100 / (2**bits - 1), signed[:, :, 1] / steps, signed[:, :, 2] / steps], axis=2)
        yield Case(
            _named(bits, "CIELab", how),
            tiff(whole, bits, photometric=8, **how),
            expected.picture(expected.from_lab(lab)),
        )
        lab = whole / steps * [100 / 255, 1, 1] - [0, 128, 128]
        yield Case(
            _named(bits, "ICCLab", how),
            tiff(whole, bits, photometric=9, **how),
            expected.picture(expected.from_lab(lab)),
        )


def _alpha() -> Iterator[Case]:
    kinds: Sequence[tuple[tuple[int, ...], str]] = (
        ((_UNASSOCIATED,), "unassociated alpha"),
        ((_ASSOCIATED,), "associated alpha"),
        ((_UNSPECIFIED,), "an unspecified sample"),
        ((_UNSPECIFIED, _UNASSOCIATED), "alpha after an unspecified sample"),
        ((_UNASSOCIATED, _UNSPECIFIED), "alpha before an unspecified sample"),
        ((), "no word about the fourth sample"),
    )
    numbers = [(bits, 1) for bits in (1, 2, 4, 8, 12, 16, 32)] + [(16, 2), (16, 3), (32, 3)]
    for (bits, sample_format), (photometric, (number, count)) in product(numbers, _PHOTOMETRICS.items()):
        for extra, name in kinds:
            if not extra and photometric != "RGB":
                continue
            total = count + max(1, len(extra))
            for planar, order in product((1, 2), "<>"):
                case = _with_alpha(bits, sample_format, number, photometric, extra, total, planar, order)
                yield Case(f"{bits}-bit format {sample_format} {photometric}, {name}, planar={planar} {order}", *case)


def _with_alpha(
    bits: int,
    sample_format: int,
    number: int,
    photometric: str,
    extra: tuple[int, ...],
    total: int,
    planar: int,
    order: str,
) -> tuple[bytes, np.ndarray]:
    count = _PHOTOMETRICS[photometric][1]
    if sample_format == 3:
        samples = np.random.default_rng(0).random((_HEIGHT, _WIDTH, total)).astype(f"f{bits // 8}")
    else:
        samples = noise(_HEIGHT, _WIDTH, total, 2 ** (bits - (sample_format == 2)))
    place = count + (extra.index(_UNASSOCIATED) if _UNASSOCIATED in extra else 0)
    if _ASSOCIATED in extra:
        samples[:, :, :count] = np.minimum(samples[:, :, :count], samples[:, :, [place]])
    levels = expected.scaled(samples, bits, sample_format)
    alpha = None if extra == (_UNSPECIFIED,) else levels[:, :, place]
    color = levels[:, :, :count]
    if _ASSOCIATED in extra and alpha is not None:
        color = color / np.where(alpha > 0, alpha, 1)[:, :, None]
    tags = {338: ("H", list(extra))} if extra else {}
    data = tiff(samples, bits, sample_format=sample_format, photometric=number, planar=planar, order=order, tags=tags)
    shown = _shown(color, photometric)
    return data, shown if alpha is None else np.concatenate([shown[:, :, :3], alpha[:, :, None]], axis=2)


def _orientation() -> Iterator[Case]:
    turns = [lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1], lambda a: a.swapaxes(0, 1)]
    turns += [
        lambda a: a.swapaxes(0, 1)[:, ::-1],
        lambda a: a[::-1, ::-1].swapaxes(0, 1),
        lambda a: a.swapaxes(0, 1)[::-1],
    ]
    for bits, (number, turn), pages in product((1, 8, 12, 16), enumerate(turns, 1), (1, 3)):
        samples = noise(_HEIGHT, _WIDTH, 3, 2**bits)
        data = tiff(samples, bits, photometric=2, pages=pages, tags={274: ("H", [number])})
        shown = turn(expected.picture(expected.scaled(samples, bits)))
        yield Case(f"{bits}-bit RGB, orientation {number}, {pages} pages", data, shown)


def _image_codecs() -> Iterator[Case]:
    for mode, color in {"L": (77,), "RGB": (200, 30, 90), "CMYK": (10, 200, 30, 50)}.items():
        stream = BytesIO()
        Image.new(mode, (32, 32), color[0] if len(color) == 1 else color).save(
            stream, "TIFF", compression="jpeg", quality=100
        )
        levels = np.full((32, 32, len(color)), color) / 255
        shown = expected.picture(expected.inks(levels) if mode == "CMYK" else levels)
        yield Case(f"JPEG {mode}", stream.getvalue(), shown, levels=2)
    for compression, order, photometric, orientation in product(
        ("CCITT RLE", "CCITT T.4", "CCITT T.6"), "<>", (0, 1), (1, 6)
    ):
        samples = noise(_HEIGHT, _WIDTH, 1, 2)
        tags = {274: ("H", [orientation])}
        data = tiff(samples, 1, photometric=photometric, compression=compression, order=order, tags=tags)
        shown = expected.picture(np.abs(samples - float(photometric == 0)))
        shown = shown if orientation == 1 else shown.swapaxes(0, 1)[:, ::-1]
        yield Case(f"{compression} {order} photometric {photometric}, orientation {orientation}", data, shown)


def _unknown_ranges() -> Iterator[Case]:
    small = noise(_HEIGHT, _WIDTH, 1, 2000)
    for bits, sample_format in product((24, 32, 64), (1, 2)):
        data = tiff(small, bits, sample_format=sample_format)
        yield Case(f"{bits}-bit numbers below 2000, format {sample_format}", data, refusal="would be black")
    for bits in (8, 16, 32):
        negative = noise(_HEIGHT, _WIDTH, 1, 100).astype(np.int64) - 50
        yield Case(f"negative numbers of {bits} bits", tiff(negative, bits, sample_format=2), refusal="negative")
    for bits, (low, high) in product((16, 32, 64), ((0, 255), (-1, 1), (0, 1.1), (0, np.nan), (-np.inf, 1))):
        values = np.full((_HEIGHT, _WIDTH, 1), low, np.float64)
        values[0] = high
        yield Case(
            f"floating-point numbers from {low} to {high}, {bits} bits",
            tiff(values, bits, sample_format=3),
            refusal="floating-point numbers run from",
        )


def _unsupported() -> Iterator[Case]:
    grey, color = noise(_HEIGHT, _WIDTH, 1), noise(_HEIGHT, _WIDTH, 3)
    for bits in (32, 64):
        yield Case(
            f"complex integers of {bits} bits", tiff(grey, bits, tags={339: ("H", [5])}), refusal="complex samples"
        )
        yield Case(
            f"complex numbers of {bits} bits", tiff(grey, bits, tags={339: ("H", [6])}), refusal="complex samples"
        )
    yield Case("floats of 24 bits", tiff(grey, 24, tags={339: ("H", [3])}), refusal="floating-point samples of 24 bits")
    yield Case("5, 6 and 5 bits", tiff(color, 8, photometric=2, tags={258: ("H", [5, 6, 5])}), refusal="samples differ")
    yield Case(
        "formats that differ",
        tiff(color, 8, photometric=2, tags={339: ("H", [1, 2, 1])}),
        refusal="tags of unexpected types",
    )
    yield Case(
        "inks other than CMYK",
        tiff(noise(_HEIGHT, _WIDTH, 4), 8, photometric=5, tags={332: ("H", [2])}),
        refusal="inks other than CMYK",
    )
    names = {4: "transparency mask", 10: r"ITU L\*a\*b\*", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv"}
    for number, name in {**names, 34892: "linear raw", 999: "number 999"}.items():
        yield Case(f"photometric {number}", tiff(color, 8, photometric=number), refusal=f"interpretation {name}")
    yield Case("a volume", tiff(grey, 8, tags={32997: ("I", [2])}), refusal="a TIFF of a volume")
    names = {34887: "LERC", 34712: "JPEG2000", 50002: "JPEGXL", 32809: "THUNDERSCAN", 12345: "number 12345"}
    for number, name in names.items():
        yield Case(f"compression {number}", tiff(grey, 8, tags={259: ("H", [number])}), refusal=f"compression {name}")
    yield Case("12-bit JPEG", tiff(grey, 12, tags={259: ("H", [7])}), refusal="JPEG with 12 bits")


def _broken() -> Iterator[Case]:
    for compression, bits in product(("none", "LZW", "Deflate", "ZSTD", "LZMA", "PackBits"), (8, 12, 16)):
        # the pixels come first, then the directory
        whole = tiff(noise(_HEIGHT, _WIDTH, 3, 2**bits), bits, photometric=2, compression=compression, rows_per_strip=4)
        yield Case(f"{bits}-bit {compression}, cut", whole[: len(whole) - 300], refusal="a broken TIFF")
        if compression != "none":
            spoilt = whole[:30] + bytes(byte ^ 0x5A for byte in whole[30:200]) + whole[200:]
            if compression not in ("PackBits", "ZSTD"):  # which have no check sum
                yield Case(f"{bits}-bit {compression}, damaged", spoilt, refusal="a broken TIFF")
    grey = noise(_HEIGHT, _WIDTH, 1)
    yield Case("strips that lie behind the end", tiff(grey, 8, tags={273: ("I", [99999])}), refusal="a broken TIFF")
    yield Case("strips of no bytes", tiff(grey, 8, tags={279: ("I", [0])}), refusal="a broken TIFF")
    yield Case("no strips", tiff(grey, 8, tags={273: ("I", []), 279: ("I", [])}), refusal="a broken TIFF")
    yield Case(
        "a palette that is too short",
        tiff(grey, 8, photometric=3, tags={320: ("H", [1, 2, 3])}),
        refusal="a broken TIFF",
    )
    yield Case("RGB of one sample", tiff(grey, 8, photometric=2), refusal="a broken TIFF")
    yield Case("a header alone", b"II*\0\x08\0\0\0", refusal="a broken TIFF")
