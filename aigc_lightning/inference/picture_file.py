"""Picture files that are read, edited and written with their metadata preserved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.output import plain_metadata
from aigc_lightning.data.decode import in_mode, load, tell
from aigc_lightning.data.decoding.profiles import from_srgb, is_for

#: Extensions of files that are written as JPEG; all others become PNG.
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
_JPEG_QUALITY = 95

_ORIENTATION, _EXIF, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003  # EXIF tags
# Tags about how the original file stores its pixels: size, bits, compression, strips, tiles, embedded JPEG tables.
_STORAGE = {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339}
_STORAGE |= {301, 330, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 34675}
# How an upright picture is transformed to match the orientation tag: the inverse of what viewers do.
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
    """A picture as a viewer shows it, with its file's metadata.

    Args:
        picture: upright, in mode L, RGB or RGBA with 8 bits.
        exif: its EXIF tags, including the orientation.
        profile: the ICC colour profile of its file, or None.
        is_srgb: whether its colours are in sRGB rather than in the profile's space.
    """

    picture: Image.Image
    exif: Image.Exif
    profile: bytes | None
    is_srgb: bool = True


def read_picture(path: Path, *, keep_colors: bool = False) -> PictureFile:
    """Read a picture file, keeping transparency.

    Args:
        path: the file.
        keep_colors: do not convert the pixel values of a file with a profile, for edits after which the profile still
            holds: sRGB lacks some colours of wider profiles. CMYK profiles are applied anyway.

    Raises:
        CorruptImageError: the file is missing, truncated, damaged, too large or not an image.
    """
    found = load(path, profile="keep" if keep_colors else "srgb")
    picture = _without_needless_channels(found.image)
    keeps = keep_colors and found.profile is not None and is_for(found.profile, picture.mode)
    if keep_colors and not keeps:
        found = load(path)
        picture = _without_needless_channels(found.image)
    tell(path, found.remarks)
    return PictureFile(picture, _kept(found.exif()), found.profile, not keeps)


def _without_needless_channels(image: Image.Image) -> Image.Image:
    """Return a picture in mode RGBA if any of it is transparent, otherwise in RGB, or in L if it is grey."""
    picture = in_mode(image, 4)
    if picture.getchannel("A").getextrema() == (255, 255):
        picture = in_mode(image, 1 if image.mode in ("1", "L", "LA", "La") else 3)
    picture.info = {}  # from which a writer would take the old profile
    return picture


def write_picture(picture: Image.Image, path: Path, origin: PictureFile, text: dict[str, str]) -> None:
    """Write a picture as JPEG or PNG, by the path's extension, with the EXIF tags and the profile of its original.

    The pixels are rotated so that the picture is shown upright with the original orientation tag, and converted to the
    original profile; if that is for another colour space, such as CMYK, the file is in sRGB without a profile.

    Args:
        picture: upright, in mode L, RGB or RGBA, in the colours of `origin`; a JPEG is composited on white.
        path: the file; its folder is created if necessary.
        origin: the picture it was made from.
        text: contents of a PNG's tEXt chunks by keyword, or of a JPEG's comment.
    """
    text = plain_metadata(text)
    turn = _TURNS_BACK.get(origin.exif.get(_ORIENTATION, 1))
    stored = picture if turn is None else picture.transpose(turn)
    is_jpeg = path.suffix.lower() in JPEG_SUFFIXES
    if is_jpeg:
        stored = on_white(stored)
    options: dict[str, Any] = {"icc_profile": None}
    if exif := _tags(origin.exif, stored.size):
        options["exif"] = exif
    converted = from_srgb(stored, origin.profile) if origin.profile and origin.is_srgb else stored
    if origin.profile and converted is not None and is_for(origin.profile, converted.mode):
        stored, options["icc_profile"] = converted, origin.profile
    if is_jpeg:
        options |= {"quality": _JPEG_QUALITY, "subsampling": 0, "comment": "\n".join(text.values())}
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


def _kept(found: Image.Exif) -> Image.Exif:
    """Return EXIF tags without those about the file and without the original's thumbnail."""
    kept = Image.Exif()
    try:
        kept.load(found.tobytes())
        for tag in _STORAGE & set(kept):
            del kept[tag]
    except Exception:  # files contain tags that Pillow reads but cannot write; only the orientation is needed
        kept = Image.Exif()
        kept[_ORIENTATION] = found.get(_ORIENTATION, 1)
    return kept


def _tags(exif: Image.Exif, size: tuple[int, int]) -> bytes:
    """Return EXIF tags as bytes, with any size tags updated to the new picture."""
    if _EXIF in exif:  # asking for a missing directory would create an empty one
        details = exif.get_ifd(_EXIF)
        details.update({tag: length for tag, length in zip((_WIDTH, _HEIGHT), size, strict=True) if tag in details})
    return exif.tobytes() if exif else b""
