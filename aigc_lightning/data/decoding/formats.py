"""The kinds of image files: known by their first bytes, found by their endings, read by Pillow and its plug-ins."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import BinaryIO

from PIL import Image, ImageFile, features


class RefusedError(ValueError):
    """A file is whole and not read; says what it is."""


#: Bytes from the beginning of a file by which `identify` knows it.
HEAD = 64
#: What installs the packages that read further kinds of files.
INSTALL = 'pip install "aigc-lightning[formats]"'


@dataclass(frozen=True, eq=False)  # each is itself alone, which makes looking one up quick
class Format:
    """A kind of image file.

    Args:
        name: as people write it.
        plugin: its name in Pillow.
        module: that adds it to Pillow.
        endings: of its files, in lower case.
        begins: what its first bytes match.
        feature: the feature of Pillow that reads it, where builds without it exist.
        registers: the function of the module that adds it to Pillow; importing it is enough when empty.
    """

    name: str
    plugin: str
    module: str
    endings: tuple[str, ...]
    begins: re.Pattern[bytes]
    feature: str = ""
    registers: str = ""

    @property
    def available(self) -> bool:
        """Whether it can be read in this environment."""
        if not self.module.startswith("PIL."):
            return find_spec(self.module) is not None
        return not self.feature or _has_feature(self.feature)

    @property
    def remedy(self) -> str:
        """What to do where it is not available."""
        return INSTALL if self.feature == "" else 'pip install --upgrade "pillow>=11.3"'


def _kind(name: str, module: str, endings: str, begins: bytes, *, plugin: str = "", **how: str) -> Format:
    return Format(name, plugin or name, module, tuple(endings.split()), re.compile(begins, re.DOTALL), **how)


_TGA = _kind("TGA", "PIL.TgaImagePlugin", ".tga", rb".[\0\x01][\x01-\x03\x09-\x0b].{5}.{8}[\x01\x08\x0f\x10\x18\x20]")

#: In the order in which their first bytes are compared.
FORMATS = (
    _kind("JPEG", "PIL.JpegImagePlugin", ".jpg .jpeg .jpe .jfif", rb"\xff\xd8\xff"),
    _kind("PNG", "PIL.PngImagePlugin", ".png .apng", rb"\x89PNG\r\n\x1a\n"),
    _kind("GIF", "PIL.GifImagePlugin", ".gif", rb"GIF8[79]a"),
    _kind("BMP", "PIL.BmpImagePlugin", ".bmp .dib", rb"BM"),
    _kind("WebP", "PIL.WebPImagePlugin", ".webp", rb"RIFF....WEBP", plugin="WEBP", feature="webp"),
    _kind("TIFF", "PIL.TiffImagePlugin", ".tif .tiff", rb"II[*+]\0|MM\0[*+]|II\0[*]|MM[*]\0"),
    _kind("PNM", "PIL.PpmImagePlugin", ".ppm .pgm .pbm .pnm", rb"P[1-6fF][\s#]", plugin="PPM"),
    _kind(
        "JPEG 2000",
        "PIL.Jpeg2KImagePlugin",
        ".jp2 .j2k .j2c .jpc .jpf .jpx",
        rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
        plugin="JPEG2000",
        feature="jpg_2000",
    ),
    _kind(
        "AVIF",
        "PIL.AvifImagePlugin",
        ".avif .avifs",
        rb"....ftyp(?:avi[fs]|(?:mif1|msf1|miaf).{4}(?:.{4}){0,10}?avi[fs])",
        feature="avif",
    ),
    _kind(
        "HEIC",
        "pillow_heif",
        ".heic .heif .hif",
        rb"....ftyp(?:he[iv][cxms]|mif1|msf1)",
        plugin="HEIF",
        registers="register_heif_opener",
    ),
    _kind("JPEG XL", "pillow_jxl", ".jxl", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", plugin="JXL"),
    _TGA,
)

# Files that are met in image folders and are something else.
_OTHERS = [
    (name, re.compile(begins, re.DOTALL | re.IGNORECASE))
    for name, begins in (
        ("an empty file", rb"\Z"),
        ("a Git LFS pointer, and the file itself was not fetched", rb"version https://git-lfs"),
        ("a web page", rb"\s*<(?:!doctype html|html)"),
        ("an SVG drawing", rb"\s*<(?:svg|\?xml)"),
        ("a PDF", rb"%PDF"),
        ("a PostScript file", rb"%!PS|\xc5\xd0\xd3\xc6"),
        ("a Photoshop file", rb"8BPS"),
        ("an icon", rb"\0\0[\x01\x02]\0"),
        ("a video", rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI "),
        ("a zip archive", rb"PK\x03\x04"),
    )
]
_NAMES = ", ".join(format_.name for format_ in FORMATS)


def identify(head: bytes, name: str | None = None) -> Format:
    """Return what kind of file begins like this.

    Args:
        head: its first `HEAD` bytes.
        name: of the file, None without one. TGA files have no mark of their own: they are known by their ending, and
            without a name by their header alone.

    Raises:
        RefusedError: it is none of `FORMATS`, or one that cannot be read in this environment; says so.
    """
    for format_ in FORMATS:
        if format_.begins.match(head):
            if format_ is _TGA and not (name is None or name.lower().endswith(_TGA.endings)):
                continue
            if not format_.available:
                raise RefusedError(f"it is {format_.name}, which takes: {format_.remedy}")
            return format_
    for what, begins in _OTHERS:
        if begins.match(head):
            raise RefusedError(f"it is {what}")
    raise RefusedError(f"it is none of {_NAMES}")


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Check the size that a header gives.

    Raises:
        RefusedError: no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise RefusedError("it has no pixels")
    if width * height > max_pixels:
        size = f"{width}x{height} is {width * height / 1e6:.0f} megapixels"
        raise RefusedError(f"{size}, more than the {max_pixels / 1e6:.0f} allowed")


def open_with_pillow(format_: Format, stream: BinaryIO) -> ImageFile.ImageFile:
    """Return a file as Pillow opens it, without its pixels.

    Not by `Image.open`, which keeps to itself what is wrong with a file.

    Raises:
        SyntaxError: what is wrong.
    """
    _register(format_)
    image: ImageFile.ImageFile = Image.OPEN[format_.plugin][0](stream, "")
    return image


@cache
def _register(format_: Format) -> None:
    """Import what reads a kind of file: once, and not before such a file is met."""
    module = import_module(format_.module)
    if format_.registers:
        getattr(module, format_.registers)()


@cache
def _has_feature(name: str) -> bool:
    known = {*features.modules, *features.codecs, *features.features}
    return name in known and bool(features.check(name))


#: Endings of the files that are taken for images, in lower case: those that can be read in this environment.
SUFFIXES = tuple(ending for format_ in FORMATS if format_.available for ending in format_.endings)


def passed_over(counts: Mapping[str, int], limit: int = 5) -> str:
    """Return which files were passed over, and what it takes to read those that are images: "200 .heic (...), 3 .txt".

    Args:
        counts: of files by ending, in lower case, "" for none.
        limit: endings to name; images are always named.
    """
    remedies = {ending: _remedy(ending) for ending in counts}
    named = sorted(counts, key=lambda ending: (not remedies[ending], -counts[ending]))
    shown = [ending for place, ending in enumerate(named) if remedies[ending] or place < limit]
    texts = [f"{counts[ending]:,} {ending or 'without an ending'}{remedies[ending]}" for ending in shown]
    rest = sum(counts.values()) - sum(counts[ending] for ending in shown)
    return ", ".join([*texts, *([f"{rest:,} others"] if rest else [])])


def _remedy(ending: str) -> str:
    missing = [format_ for format_ in FORMATS if ending in format_.endings and not format_.available]
    return f" ({missing[0].remedy})" if missing else ""
