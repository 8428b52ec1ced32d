"""Picture files that are read, changed and written again with what they hold beside the pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aigc_lightning.core.files import open_regular, replacing
from aigc_lightning.core.output import plain_metadata
from aigc_lightning.data.decode import decode

#: Endings of the files that are written as JPEG; all others become PNG.
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
_JPEG_QUALITY = 95

_ORIENTATION, _EXIF, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003  # EXIF tags
# Tags that say how the old file keeps its pixels: size, bits, compression, strips, tiles, embedded JPEG tables.
_STORAGE = {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339}
_STORAGE |= {301, 330, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 34675}
# How an upright picture is turned to stand as the tag says: the inverse of what viewers do.
_TURNS_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class PictureFile:
    """A picture as a viewer shows it, and what its file says about it.

    Args:
        picture: upright, in mode L, RGB or RGBA with 8 bits.
        exif: its EXIF tags, the orientation among them.
        profile: its ICC colour profile, None without one.
    """

    picture: Image.Image
    exif: Image.Exif
    profile: bytes | None


def read_picture(path: Path) -> PictureFile:
    """Return the picture of a file; transparency is kept.

    Raises:
        CorruptImageError: the file is missing, truncated, damaged, too large or no image.
    """
    pixels = decode(path, 4).permute(1, 2, 0).numpy()
    with open_regular(path) as file, Image.open(file) as image:
        if image.format == "TIFF":
            image.load()  # which turns it upright and takes the tag away
        is_grey = image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16")
        exif, profile = _exif(image), image.info.get("icc_profile")
    if (pixels[:, :, 3] < 255).any():
        picture = Image.fromarray(pixels)
    else:
        picture = Image.fromarray(pixels[:, :, 0] if is_grey else np.ascontiguousarray(pixels[:, :, :3]))
    return PictureFile(picture, exif, profile if isinstance(profile, bytes) else None)


def write_picture(picture: Image.Image, path: Path, origin: PictureFile, text: dict[str, str]) -> None:
    """Write a picture as JPEG or PNG, by the ending of the path, with the EXIF tags and the profile of another one.

    The pixels are turned so that with the old orientation tag the picture is shown upright.

    Args:
        picture: upright, in mode L, RGB or RGBA; a JPEG lays it on white.
        path: the file; its folder is made where it does not exist.
        origin: what the picture was made from.
        text: what to write into a PNG's tEXt chunks by keyword, or into a JPEG's comment.
    """
    text = plain_metadata(text)
    turn = _TURNS_BACK.get(origin.exif.get(_ORIENTATION, 1))
    stored = picture if turn is None else picture.transpose(turn)
    options: dict[str, Any] = {"exif": _tags(origin.exif, stored.size), "icc_profile": _fitting(origin.profile, stored)}
    options = {name: value for name, value in options.items() if value}
    is_jpeg = path.suffix.lower() in JPEG_SUFFIXES
    if is_jpeg:
        options |= {"quality": _JPEG_QUALITY, "subsampling": 0, "comment": "\n".join(text.values())}
        stored = on_white(stored)
    else:
        chunks = PngInfo()
        for keyword, value in text.items():
            chunks.add_text(keyword, value)
        options["pnginfo"] = chunks
    with replacing(path) as temporary:
        stored.save(temporary, format="JPEG" if is_jpeg else "PNG", **options)


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture without transparency."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _exif(image: Image.Image) -> Image.Exif:
    """Return an open image's EXIF tags without those about its file; a thumbnail of the old picture is left out too."""
    kept = Image.Exif()
    found = image.getexif()
    try:
        kept.load(found.tobytes())
        for tag in _STORAGE & set(kept):
            del kept[tag]
    except Exception:  # files hold tags that their readers cannot write; what turns the picture is needed
        kept = Image.Exif()
        kept[_ORIENTATION] = found.get(_ORIENTATION, 1)
    return kept


def _tags(exif: Image.Exif, size: tuple[int, int]) -> bytes:
    """Return EXIF tags as bytes, with the size of the new picture where they say one."""
    if _EXIF in exif:  # asking for what is not there would write an empty one
        details = exif.get_ifd(_EXIF)
        details.update({tag: length for tag, length in zip((_WIDTH, _HEIGHT), size, strict=True) if tag in details})
    return exif.tobytes() if exif else b""


def _fitting(profile: bytes | None, picture: Image.Image) -> bytes | None:
    """Return a profile if it is one of the picture's kind of colours, by the ICC header's colour space."""
    return profile if profile and profile[16:20] == (b"GRAY" if picture.mode == "L" else b"RGB ") else None
