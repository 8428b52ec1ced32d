"""The image file formats: identified by their first bytes, found by extension, read by Pillow and its plugins."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import BinaryIO

from PIL import Image, ImageFile, features


class RefusedError(ValueError):
    """A file is intact but not supported; the message says what it is."""


#: Number of first bytes of a file that `identify` needs.
HEAD = 64
#: Command that installs the packages for further formats.
INSTALL = 'pip install "aigc-lightning[formats]"'


@dataclass(frozen=True, eq=False)  # compared by identity, which makes lookups fast
class Format:
    """An image file format.

    Args:
        name: for display.
        plugin: its format name in Pillow.
        module: the module that adds it to Pillow.
        endings: file extensions, in lower case.
        begins: pattern that its first bytes match.
        feature: the Pillow feature that reads it, if some builds lack it.
        registers: the function of the module that adds it to Pillow; empty if importing the module is enough.
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
        """How to make it available."""
        return INSTALL if self.feature == "" else 'pip install --upgrade "pillow>=11.3"'


def _kind(name: str, module: str, endings: str, begins: bytes, *, plugin: str = "", **how: str) -> Format:
    return Format(name, plugin or name, module, tuple(endings.split()), re.compile(begins, re.DOTALL), **how)


_TGA = _kind("TGA", "PIL.TgaImagePlugin", ".tga", rb".[\0\x01][\x01-\x03\x09-\x0b].{5}.{8}[\x01\x08\x0f\x10\x18\x20]")

#: In the order in which their first bytes are checked.
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

# Other kinds of files that occur in image folders.
_OTHERS = [
    (name, re.compile(begins, re.DOTALL | re.IGNORECASE))
    for name, begins in (
        ("an empty file", rb"\Z"),
        ("a Git LFS pointer whose file was not fetched", rb"version https://git-lfs"),
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
    """Return the format of a file from its first bytes.

    Args:
        head: its first `HEAD` bytes.
        name: of the file, if known. TGA files have no signature: they are identified by their extension or, without a
            name, by their header.

    Raises:
        RefusedError: it is none of `FORMATS`, or cannot be read in this environment; the message says which.
    """
    for format_ in FORMATS:
        if format_.begins.match(head):
            if format_ is _TGA and not (name is None or name.lower().endswith(_TGA.endings)):
                continue
            if not format_.available:
                raise RefusedError(f"it is {format_.name}, which requires: {format_.remedy}")
            return format_
    for what, begins in _OTHERS:
        if begins.match(head):
            raise RefusedError(f"it is {what}")
    raise RefusedError(f"it is none of {_NAMES}")


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Check the size from a header.

    Raises:
        RefusedError: the image has no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise RefusedError("it has no pixels")
    if width * height > max_pixels:
        size = f"{width}x{height} is {width * height / 1e6:.0f} megapixels"
        raise RefusedError(f"{size}, more than the {max_pixels / 1e6:.0f} allowed")


def open_with_pillow(format_: Format, stream: BinaryIO) -> ImageFile.ImageFile:
    """Open a file with Pillow without reading its pixels.

    Not with `Image.open`, which hides what is wrong with a file.

    Raises:
        SyntaxError: what is wrong.
    """
    _register(format_)
    image: ImageFile.ImageFile = Image.OPEN[format_.plugin][0](stream, "")
    return image


@cache
def _register(format_: Format) -> None:
    """Import the reader of a format once, when the first such file is met."""
    module = import_module(format_.module)
    if format_.registers:
        getattr(module, format_.registers)()


@cache
def _has_feature(name: str) -> bool:
    known = {*features.modules, *features.codecs, *features.features}
    return name in known and bool(features.check(name))


#: Extensions of image files that can be read in this environment, in lower case.
SUFFIXES = tuple(ending for format_ in FORMATS if format_.available for ending in format_.endings)


def passed_over(counts: Mapping[str, int], limit: int = 5) -> str:
    """Summarize skipped files, with how to read those that are images: "200 .heic (...), 3 .txt".

    Args:
        counts: number of files by extension, in lower case, "" for none.
        limit: maximum number of extensions to name; those of images are always named.
    """
    remedies = {ending: _remedy(ending) for ending in counts}
    named = sorted(counts, key=lambda ending: (not remedies[ending], -counts[ending]))
    shown = [ending for place, ending in enumerate(named) if remedies[ending] or place < limit]
    texts = [f"{counts[ending]:,} {ending or 'without an extension'}{remedies[ending]}" for ending in shown]
    rest = sum(counts.values()) - sum(counts[ending] for ending in shown)
    return ", ".join([*texts, *([f"{rest:,} others"] if rest else [])])


def _remedy(ending: str) -> str:
    missing = [format_ for format_ in FORMATS if ending in format_.endings and not format_.available]
    return f" ({missing[0].remedy})" if missing else ""
