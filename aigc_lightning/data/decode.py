"""One decoder for every image file: what a person sees in a viewer becomes uint8 numbers of the size that is asked for.

Shapes: C channels, H and W height and width in pixels.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from aigc_lightning.core.files import open_regular
from aigc_lightning.errors import UserError, did_you_mean

#: Endings of the files that are taken for images, in lower case.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
#: Pixels (H * W) above which a file is refused before it is decoded.
MAX_PIXELS = 64_000_000

# Pillow would also try formats that start other programs (EPS) or stand for no single picture (PDF, ICO).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF tag; its values say how to turn the stored picture upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class CorruptImageError(UserError):
    """A file is no image that can be used.

    Args:
        path: which file.
        reason: what is wrong with it, without a full stop.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path} cannot be read as an image: {reason}.", "Mend or remove the file.")

    def __reduce__(self) -> tuple[type["CorruptImageError"], tuple[str, str]]:
        """Pickle the arguments: an exception's own way would call the class with its message."""
        return type(self), (self.path, self.reason)


def decode(
    source: str | Path | bytes,
    channels: int = 3,
    *,
    size: tuple[int, int] | None = None,
    resize: str = "crop",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Return the picture of a file.

    EXIF rotation is applied, transparency is laid on white unless four channels are asked for, 16-bit grey is scaled to
    8 bits, an animation gives its first picture. Colour profiles are not applied.

    Args:
        source: a path, or the bytes of a file.
        channels: C, one of 1 (grey), 3 (RGB) or 4 (RGBA).
        size: (H, W) in pixels; the file's own when None.
        resize: how to reach `size`, see `resize_rule`.
        max_pixels: refuse files with more pixels, by their header and before they are decoded.

    Returns:
        uint8 (C, H, W).

    Raises:
        CorruptImageError: the file is missing, truncated, damaged, too large or no image.
        UserError: another number of channels, or an unknown resize rule.
    """
    if channels not in _MODES:
        raise UserError(f"{channels} channels were asked for.", "Use 1 (grey), 3 (RGB) or 4 (RGBA).")
    rule = resize_rule(resize)
    image = _opened(source, channels, max_pixels)
    if size is not None and size != (image.height, image.width):
        image = rule(image, *size)
    return _pixels(image, channels)


def decode_halves(path: str | Path, channels: int, size: tuple[int, int], resize: str) -> tuple[Tensor, Tensor]:
    """Return the left and the right half of a file's picture as two images of the same size.

    Args:
        path: the file; of an odd number of columns the middle one belongs to neither half.
        channels: C, one of 1 (grey), 3 (RGB) or 4 (RGBA).
        size: (H, W) of each half in pixels.
        resize: how to reach `size`, see `resize_rule`.

    Returns:
        Two images, uint8 (C, H, W).

    Raises:
        CorruptImageError: as for `decode`, or the picture has a single column.
        UserError: an unknown resize rule.
    """
    rule = resize_rule(resize)
    image = _opened(path, channels, MAX_PIXELS)
    half = image.width // 2
    if not half:
        raise CorruptImageError(path, "it is one pixel wide and has no two halves")
    left, right = (image.crop((start, 0, start + half, image.height)) for start in (0, image.width - half))
    return _pixels(rule(left, *size), channels), _pixels(rule(right, *size), channels)


def _pixels(image: Image.Image, channels: int) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, channels)
    return pixels.permute(2, 0, 1).contiguous()


def resize_rule(name: str) -> Callable[[Image.Image, int, int], Image.Image]:
    """Return the function (image, H, W) -> image of a resize rule; all of them are antialiased and bicubic.

    Args:
        name: "crop" (scale until both sides are covered, cut the centre out), "pad" (scale until both sides fit, fill
            up with white, transparent in RGBA) or "stretch" (scale both sides on their own).

    Raises:
        UserError: there is no such rule.
    """
    if name not in _RULES:
        raise UserError(f'There is no resize rule "{name}".', did_you_mean(name, _RULES))
    return _RULES[name]


def _opened(source: str | Path | bytes, channels: int, max_pixels: int) -> Image.Image:
    """Return an upright image in the 8-bit mode that has this number of channels."""
    try:
        stream = BytesIO(source) if isinstance(source, bytes) else open_regular(source)
        with stream, Image.open(stream, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width}x{image.height} is {image.width * image.height / 1e6:.0f} megapixels"
                raise ValueError(f"{size}, more than the {max_pixels / 1e6:.0f} allowed")
            image.load()
            # Formats that are upright already, such as TIFF, drop the tag in load.
            turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
            upright = image if turn is None else image.transpose(turn)
            return _in_mode(_eight_bit(upright), channels)
    except MemoryError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise CorruptImageError("<bytes>" if isinstance(source, bytes) else source, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(_FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).rstrip(".") or type(error).__name__


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale grey images of more than 8 bits, which Pillow would clip to white."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("its pixels are 32-bit numbers of unknown range")
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def _in_mode(image: Image.Image, channels: int) -> Image.Image:
    if channels != 4 and image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    # `convert` copies even where there is nothing to convert, which at 12 megapixels takes as long as to resize.
    return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])


def _crop(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.width * height > image.height * width:
        box_width, box_height = image.height * width / height, float(image.height)
    else:
        box_width, box_height = float(image.width), image.width * height / width
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    return image.resize((width, height), Image.Resampling.BICUBIC, box)


def _pad(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = min(height / image.height, width / image.width)
    inner_height = max(1, round(image.height * scale))
    inner_width = max(1, round(image.width * scale))
    inner = image.resize((inner_width, inner_height), Image.Resampling.BICUBIC)
    canvas = Image.new(image.mode, (width, height), (255, 255, 255, 0) if image.mode == "RGBA" else "white")
    canvas.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
    return canvas


def _stretch(image: Image.Image, height: int, width: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)


_RULES = {"crop": _crop, "pad": _pad, "stretch": _stretch}
