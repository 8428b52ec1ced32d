"""JPEG, GIF, BMP, WebP, PNM, TGA, and what is read where a package or a build of Pillow allows it."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from image_files import expected
from image_files.jpeg_writer import adobe, jpeg
from image_files.plain_writers import bmp, pnm, tga
from image_files.table import Case, Row, needs, noise

_HEIGHT, _WIDTH = 13, 15


def rows() -> list[Row]:
    """Return the rows of the table."""
    return [
        Row("JPEG", "grey, YCbCr, RGB (by Adobe's marker or the names of its components)", "as these say", _jpeg),
        Row(
            "JPEG",
            "CMYK and YCCK, with Adobe's marker or without",
            "as inks that are stored inverted, which is Adobe's way",
            _jpeg_inks,
        ),
        Row("JPEG", "EXIF orientation 1 to 8", "upright", _jpeg_orientation),
        Row("JPEG", "12 or 16 bits, lossless, two components", "**refused** by name", _jpeg_unsupported),
        Row("JPEG", "cut", "**refused** as a broken JPEG", _jpeg_broken),
        Row(
            "GIF",
            "interlaced or not, with a transparent colour or without, animated, smaller than the canvas",
            "the first picture; canvas that it leaves free is transparent",
            _gif,
        ),
        Row(
            "BMP",
            "1, 4, 8, 16 (555 and 565), 24 and 32 bits, palettes, run lengths, masks, top row first, OS/2",
            "the fourth byte of 32 bits is alpha where a mask says so",
            _bmp,
        ),
        Row(
            "TGA",
            "palette, grey, 16, 24 and 32 bits, compressed or not, top row first, with a footer or without",
            "the fourth byte of 32 bits is alpha where the header says so",
            _tga,
        ),
        Row(
            "TGA",
            "without a name, as in shards, or with the ending of another format",
            "by the header where there is no name, otherwise **refused**",
            _not_tga,
        ),
        Row(
            "PNM",
            "bitmaps, grey and RGB, as text or bytes, with largest numbers from 1 to 65535",
            "the largest number is white",
            _pnm,
        ),
        Row("PNM", "floating point (PFM)", "0 is black, 1 white; **refused** beyond", _pfm),
        Row("WebP", "lossless, with alpha, animated", "the first picture", _webp, **_needs(feature="webp")),
        Row(
            "JPEG 2000",
            "grey, RGB and alpha of 8 bits, grey of 16 bits; boxed or bare",
            "as stored; takes a Pillow that was built for it, as those on PyPI are",
            _jpeg_2000,
            **_needs(feature="jpg_2000"),
        ),
        Row(
            "AVIF",
            "8 bits, with alpha or without; turned",
            "upright; takes a Pillow that was built for it, as those on PyPI are since 11.3",
            _avif,
            **_needs(feature="avif"),
        ),
        Row(
            "HEIC",
            "8 bits, with alpha or without; turned",
            "upright; takes the extra `formats`",
            _heic,
            **_needs("pillow_heif"),
        ),
        Row(
            "JPEG XL",
            "grey, RGB and alpha of 8 bits, grey of 16 bits; boxed or bare",
            "as stored; takes the extra `formats`",
            _jpeg_xl,
            **_needs("pillow_jxl"),
        ),
        Row(
            "Others",
            "PDF, PostScript, SVG, icons, Photoshop, videos, web pages, zip archives, Git LFS pointers, text, "
            "empty files",
            "**refused** by name",
            _others,
        ),
    ]


def _needs(package: str = "", feature: str = "") -> dict[str, Any]:
    return {"optional": True, "missing": needs(package, feature)}


def _blocks(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return levels (2, 3, C) for blocks of 8x8 pixels, and the same as a picture from 0 to 1."""
    levels = noise(2, 3, count, seed=seed)
    return levels, levels.repeat(8, axis=0).repeat(8, axis=1) / 255


def _jpeg() -> Iterator[Case]:
    grey, shown = _blocks(1)
    for frame, jfif in product((0xC0, 0xC1), (False, True)):
        yield Case(f"grey, frame {frame:x}, JFIF {jfif}", jpeg(grey, frame=frame, jfif=jfif), expected.picture(shown))
    levels, shown = _blocks(3)
    colors = expected.ycbcr(shown[:, :, 0], shown[:, :, 1] - 128 / 255, shown[:, :, 2] - 128 / 255)
    ways: dict[str, dict[str, Any]] = {"JFIF": {"jfif": True}, "Adobe": {"markers": adobe(1)}, "bare": {}}
    for name, how in ways.items():
        yield Case(f"YCbCr, {name}", jpeg(levels, **how), expected.picture(colors))
    ways = {"Adobe": {"markers": adobe(0)}, "names": {"ids": b"RGB"}}
    for name, how in ways.items():
        yield Case(f"RGB by {name}", jpeg(levels, **how), expected.picture(shown))


def _jpeg_inks() -> Iterator[Case]:
    levels, shown = _blocks(4)
    inks = expected.picture(expected.inks(1 - shown))
    yield Case("CMYK, Adobe", jpeg(levels, markers=adobe(0)), inks)
    yield Case("CMYK, bare", jpeg(levels), inks)
    # YCCK: the levels of R, G and B are 255 less those of C, M and Y; libjpeg gives the latter, inverted by Adobe
    rgb = expected.ycbcr(shown[:, :, 0], shown[:, :, 1] - 128 / 255, shown[:, :, 2] - 128 / 255)
    cmyk = np.concatenate([1 - (1 - rgb), shown[:, :, 3:]], axis=2)
    cmyk[:, :, :3] = 1 - rgb
    yield Case("YCCK, Adobe", jpeg(levels, markers=adobe(2)), expected.picture(expected.inks(1 - cmyk)))


def _turns(shown: np.ndarray) -> list[np.ndarray]:
    """Return what a stored picture shows by orientation 1 to 8."""
    across = shown.swapaxes(0, 1)
    return [
        shown,
        shown[:, ::-1],
        shown[::-1, ::-1],
        shown[::-1],
        across,
        across[:, ::-1],
        across[::-1, ::-1],
        across[::-1],
    ]


def _exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def _jpeg_orientation() -> Iterator[Case]:
    levels, shown = _blocks(1)
    for orientation, turned in enumerate(_turns(shown), 1):
        exif = _exif(orientation)
        markers = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        yield Case(f"orientation {orientation}", jpeg(levels, markers=markers), expected.picture(turned))


def _jpeg_unsupported() -> Iterator[Case]:
    levels, _ = _blocks(3)
    for bits in (12, 16):
        yield Case(f"{bits} bits", jpeg(levels, precision=bits, frame=0xC1), refusal=f"a JPEG of a kind .*{bits}-bit")
    yield Case("two components", jpeg(levels[:, :, :2]), refusal="a JPEG of a kind .*2-layer")
    yield Case("lossless", jpeg(levels, frame=0xC3), refusal="JPEG")


def _jpeg_broken() -> Iterator[Case]:
    stream = BytesIO()
    Image.fromarray(noise(64, 64, 3).astype(np.uint8)).save(stream, "JPEG")
    whole = stream.getvalue()
    for length in (4, 100, 640, len(whole) // 2, len(whole) * 9 // 10):
        yield Case(f"cut after {length} bytes", whole[:length], refusal="a broken JPEG")


def _saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def _pillow(samples: np.ndarray) -> Image.Image:
    pixels = samples.astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _gif() -> Iterator[Case]:
    colors = noise(256, 3, 1, seed=3)[:, :, 0].astype(np.uint8)
    numbers = noise(_HEIGHT, _WIDTH, 1, seed=4)[:, :, 0].astype(np.uint8)
    image = Image.fromarray(numbers)
    image.putpalette(colors.tobytes())
    shown = colors[numbers] / 255
    for interlaced, key in product((0, 1), (None, int(numbers[2, 2]))):
        options = {} if key is None else {"transparency": key}
        alpha = None if key is None else (numbers != key).astype(float)
        data = _saved(image, "GIF", interlace=interlaced, optimize=False, **options)
        yield Case(f"interlaced {interlaced}, transparent {key}", data, expected.picture(shown, alpha))
    other = Image.new("RGB", (_WIDTH, _HEIGHT), (9, 9, 9))
    animated = _saved(image, "GIF", save_all=True, append_images=[other], optimize=False)
    yield Case("animated", animated, expected.picture(shown))
    # the canvas is larger by its header than the picture
    whole = _saved(image, "GIF", optimize=False)
    data = whole[:6] + bytes([_WIDTH + 2, 0, _HEIGHT + 3, 0]) + whole[10:]
    larger = np.zeros((_HEIGHT + 3, _WIDTH + 2, 4))
    larger[:_HEIGHT, :_WIDTH] = expected.picture(shown)
    yield Case("smaller than the canvas", bytes(data), larger)


def _bmp() -> Iterator[Case]:
    for bits, top_down, old in product((1, 4, 8), (False, True), (False, True)):
        if not (top_down and old):
            colors = noise(2**bits, 3, 1, seed=bits)[:, :, 0]
            numbers = noise(_HEIGHT, _WIDTH, 1, 2**bits)[:, :, 0].astype(int)
            data = bmp(numbers, bits, palette=colors, top_down=top_down, old=old)
            yield Case(
                f"{bits}-bit palette, top_down={top_down}, OS/2={old}", data, expected.picture(colors[numbers] / 255)
            )
    for bits in (4, 8):
        colors = noise(2**bits, 3, 1, seed=bits)[:, :, 0]
        numbers = noise(_HEIGHT, _WIDTH, 1, 2**bits)[:, :, 0].astype(int)
        data = bmp(numbers, bits, palette=colors, run_length=True)
        yield Case(f"{bits}-bit run lengths", data, expected.picture(colors[numbers] / 255))
    layouts = {
        "555": (16, (10, 5, 0), (5, 5, 5), ()),
        "565": (16, (11, 5, 0), (5, 6, 5), (0xF800, 0x7E0, 0x1F)),
        "24": (24, (16, 8, 0), (8, 8, 8), ()),
        "32": (32, (16, 8, 0), (8, 8, 8), ()),
        "32 with masks": (32, (16, 8, 0), (8, 8, 8), (0xFF0000, 0xFF00, 0xFF)),
    }
    for (name, (bits, shifts, sizes, masks)), top_down in product(layouts.items(), (False, True)):
        parts = [noise(_HEIGHT, _WIDTH, 1, 2**size, seed=size + place)[:, :, 0] for place, size in enumerate(sizes)]
        pixels = _packed(parts, shifts)
        shown = np.stack([part / (2**size - 1) for part, size in zip(parts, sizes, strict=True)], axis=2)
        yield Case(
            f"{name}, top_down={top_down}",
            bmp(pixels, bits, masks=masks, top_down=top_down),
            expected.picture(shown),
            levels=4 if bits == 16 else 1,
        )
    channels = noise(_HEIGHT, _WIDTH, 4)
    pixels = _packed(np.moveaxis(channels, 2, 0), (16, 8, 0, 24))
    data = bmp(pixels, 32, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    yield Case("32 with alpha", data, expected.picture(channels[:, :, :3] / 255, channels[:, :, 3] / 255))


def _packed(parts: Iterable[np.ndarray], shifts: Iterable[int]) -> np.ndarray:
    """Return parts (H, W) of a pixel, each shifted by so many bits, as one number."""
    return np.asarray(sum(part << np.uint64(shift) for part, shift in zip(parts, shifts, strict=True)))


def _tga() -> Iterator[Case]:
    for packed, top_down, footer in product((0, 8), (False, True), (False, True)):
        how: dict[str, Any] = {"top_down": top_down, "footer": footer}
        name = f"compressed {packed > 0}, {how}"
        colors = noise(256, 3, 1, seed=5)[:, :, 0]
        numbers = noise(_HEIGHT, _WIDTH, 1)[:, :, 0].astype(int)
        yield Case(
            f"palette, {name}",
            tga(numbers, 8, 1 + packed, palette=colors, **how),
            expected.picture(colors[numbers] / 255),
            ending=".tga",
        )
        yield Case(
            f"grey, {name}",
            tga(numbers, 8, 3 + packed, **how),
            expected.picture(numbers[:, :, None] / 255),
            ending=".tga",
        )
        channels = noise(_HEIGHT, _WIDTH, 4)
        shown = channels / 255
        color = _packed(np.moveaxis(channels[:, :, :3], 2, 0), (16, 8, 0))
        yield Case(
            f"24-bit, {name}", tga(color, 24, 2 + packed, **how), expected.picture(shown[:, :, :3]), ending=".tga"
        )
        whole = color | channels[:, :, 3] << np.uint64(24)
        yield Case(
            f"32-bit, {name}",
            tga(whole, 32, 2 + packed, alpha_bits=8, **how),
            expected.picture(shown[:, :, :3], shown[:, :, 3]),
            ending=".tga",
        )
        yield Case(
            f"32-bit without alpha, {name}",
            tga(whole, 32, 2 + packed, **how),
            expected.picture(shown[:, :, :3]),
            ending=".tga",
        )
        parts = noise(_HEIGHT, _WIDTH, 3, 32)
        small = _packed(np.moveaxis(parts, 2, 0), (10, 5, 0))
        yield Case(
            f"16-bit, {name}", tga(small, 16, 2 + packed, **how), expected.picture(parts / 31), levels=4, ending=".tga"
        )


def _not_tga() -> Iterator[Case]:
    numbers = noise(_HEIGHT, _WIDTH, 1)[:, :, 0]
    data = tga(numbers, 8, 3)
    yield Case("without a name", data, expected.picture(numbers[:, :, None] / 255))
    yield Case("called .png", data, refusal="it is none of", ending=".png")
    yield Case("text called .tga", b"This is a text and no picture at all.", refusal="it is none of", ending=".tga")


def _pnm() -> Iterator[Case]:
    for text, comment in product((False, True), (False, True)):
        bits = noise(_HEIGHT, _WIDTH, 1, 2)
        yield Case(
            f"bitmap, text {text}, comment {comment}",
            pnm(bits, 0, text=text, comment=comment),
            expected.picture(1.0 - bits),
        )
        for count, most in product((1, 3), (1, 7, 15, 100, 255, 256, 1023, 4095, 65535)):
            samples = noise(_HEIGHT, _WIDTH, count, most + 1)
            data = pnm(samples, most, text=text, comment=comment)
            yield Case(
                f"{count} samples up to {most}, text {text}, comment {comment}", data, expected.picture(samples / most)
            )


def _pfm() -> Iterator[Case]:
    values = np.random.default_rng(0).random((_HEIGHT, _WIDTH, 1)).astype(np.float32)
    for order, scale in (("<", -1), (">", 1)):
        head = f"Pf\n{_WIDTH} {_HEIGHT}\n{scale}.0\n".encode()
        yield Case(
            f"from 0 to 1, {order}", head + values[::-1].astype(f"{order}f4").tobytes(), expected.picture(values)
        )
        yield Case(f"up to 300, {order}", head + (300 * values).astype(f"{order}f4").tobytes(), refusal="run from")


def _webp() -> Iterator[Case]:
    for count in (3, 4):
        samples = noise(_HEIGHT, _WIDTH, count)
        shown = expected.picture(samples[:, :, :3] / 255, samples[:, :, 3] / 255 if count == 4 else None)
        data = _saved(_pillow(samples), "WEBP", lossless=True, exact=True)
        yield Case(f"{count} samples", data, shown)
        other = Image.new("RGBA", (_WIDTH, _HEIGHT), (9, 9, 9, 255))
        moving = _saved(_pillow(samples), "WEBP", lossless=True, exact=True, save_all=True, append_images=[other])
        yield Case(f"{count} samples, animated", moving, shown)


def _jpeg_2000() -> Iterator[Case]:
    for count, bare in product((1, 3, 4), (False, True)):
        samples = noise(_HEIGHT, _WIDTH, count)
        color = samples[:, :, :3] / 255
        shown = expected.picture(color, samples[:, :, 3] / 255 if count == 4 else None)
        yield Case(f"{count} samples, bare {bare}", _saved(_pillow(samples), "JPEG2000", no_jp2=bare), shown)
    deep = noise(_HEIGHT, _WIDTH, 1, 65536)
    yield Case(
        "16-bit grey",
        _saved(Image.fromarray(deep[:, :, 0].astype(np.uint16)), "JPEG2000"),
        expected.picture(deep / 65535),
    )


def _lossy(format_: str, levels: float, **options: Any) -> Iterator[Case]:
    """Plain colours, which lossy files keep but for rounding; four of them where the picture is turned."""
    for color in ((200, 30, 90), (10, 240, 120, 128), (0, 0, 0), (255, 255, 255)):
        image = Image.new("RGBA" if len(color) == 4 else "RGB", (64, 64), color)
        alpha = None if len(color) == 3 else np.full((64, 64), color[3] / 255)
        yield Case(
            f"{color}",
            _saved(image, format_, **options),
            expected.picture(np.full((64, 64, 3), color[:3]) / 255, alpha),
            levels=levels,
        )
    corners = np.array([[[0, 0, 0], [255, 255, 255]], [[128, 128, 128], [64, 64, 64]]], np.uint8)
    stored = corners.repeat(32, axis=0).repeat(32, axis=1)
    for orientation, turned in enumerate(_turns(stored / 255), 1):
        data = _saved(Image.fromarray(stored), format_, exif=_exif(orientation), **options)
        yield Case(f"orientation {orientation}", data, expected.picture(turned), levels=levels + 3)


def _avif() -> Iterator[Case]:
    yield from _lossy("AVIF", 2, quality=100, subsampling="4:4:4")


def _heic() -> Iterator[Case]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    yield from _lossy("HEIF", 3, quality=100, chroma=444)


def _jpeg_xl() -> Iterator[Case]:
    import pillow_jxl  # noqa: F401

    for count, boxed in product((1, 3, 4), (False, True)):
        samples = noise(_HEIGHT, _WIDTH, count)
        shown = expected.picture(samples[:, :, :3] / 255, samples[:, :, 3] / 255 if count == 4 else None)
        yield Case(
            f"{count} samples, boxed {boxed}",
            _saved(_pillow(samples), "JXL", lossless=True, use_container=boxed),
            shown,
        )
    deep = noise(_HEIGHT, _WIDTH, 1, 65536)
    data = _saved(Image.fromarray(deep[:, :, 0].astype(np.uint16)), "JXL", lossless=True)
    yield Case(
        "16-bit grey, which the plug-in writes as linear", data, expected.picture(expected.encoded(deep / 65535))
    )


def _others() -> Iterator[Case]:
    files = {
        "an empty file": b"",
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
        "an SVG drawing": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "a PDF": b"%PDF-1.7\n",
        "a PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "a Photoshop file": b"8BPS\0\1" + bytes(20),
        "an icon": b"\0\0\1\0\1\0" + bytes(20),
        "a video": b"\0\0\0\x18ftypmp42" + bytes(20),
        "a zip archive": b"PK\3\4" + bytes(20),
    }
    for name, data in files.items():
        yield Case(name, data, refusal=f"^it is {name}", ending=".jpg")
    yield Case("text", b"I am no image", refusal="it is none of JPEG, PNG", ending=".jpg")
