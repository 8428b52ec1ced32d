"""The decoder for all image files: what a viewer would show becomes uint8 values at the requested size.

Shapes: C channels, H and W height and width in pixels.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.decoding.formats import SUFFIXES as SUFFIXES
from aigc_lightning.data.decoding.picture import PROFILES, How, Picture, header, load_picture
from aigc_lightning.data.decoding.picture import Profile as Profile
from aigc_lightning.errors import UserError, did_you_mean

#: Maximum number of pixels (H * W); larger files are rejected before they are decoded.
MAX_PIXELS = 64_000_000

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_REMARKS_SHOWN = 5  # number of files, in each process
_log = logging.getLogger(__name__)


class CorruptImageError(UserError):
    """A file is not a usable image.

    Args:
        path: the file.
        reason: what is wrong with it, without a full stop.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path} cannot be read as an image: {reason}.", "Repair or remove the file.")

    def __reduce__(self) -> tuple[type["CorruptImageError"], tuple[str, str]]:
        """Pickle the arguments: by default an exception is rebuilt from its message."""
        return type(self), (self.path, self.reason)


def decode(
    source: str | Path | bytes,
    channels: int = 3,
    *,
    size: tuple[int, int] | None = None,
    resize: str = "crop",
    profile: Profile = "srgb",
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Return the picture of a file as a viewer shows it; see docs/data_files.md for the supported files.

    EXIF rotation is applied, colours are converted to sRGB, transparency is composited on white unless four channels
    are requested, more than 8 bits are scaled to 8, and of an animation the first frame is used.

    Args:
        source: a path, or the bytes of a file.
        channels: C, one of 1 (grey), 3 (RGB) or 4 (RGBA).
        size: (H, W) in pixels; None for the file's own.
        resize: how to reach `size`, see `resize_rule`.
        profile: "srgb" converts from the file's ICC profile or gamma, "keep" leaves the pixel values unchanged.
        max_pixels: reject files with more pixels, from their header and before they are decoded.

    Returns:
        uint8 (C, H, W).

    Raises:
        CorruptImageError: the file is missing, truncated, damaged, too large or not an image.
        UserError: an unsupported number of channels, or an unknown resize rule or profile option.
    """
    rule = resize_rule(resize)
    shrink = None if size is None or resize == "pad" else partial(_shrunk, size, rule)
    picture = _loaded(source, How(max_pixels, known_profile(profile), shrink))
    tell(source, picture.remarks)
    image = in_mode(picture.image, channels)
    if size is not None and size != (image.height, image.width):
        image = rule(image, *size)
    return _pixels(image, channels)


def as_tensor(picture: Picture, channels: int = 3) -> Tensor:
    """Convert a loaded picture as `decode` does, to uint8 (C, H, W)."""
    return _pixels(in_mode(picture.image, channels), channels)


def load(source: str | Path | bytes, *, profile: Profile = "srgb", max_pixels: int = MAX_PIXELS) -> Picture:
    """Return the picture of a file with its metadata; see `decode` for the arguments.

    Raises:
        CorruptImageError: as for `decode`.
        UserError: an unknown profile option.
    """
    return _loaded(source, How(max_pixels, known_profile(profile)))


def _loaded(source: str | Path | bytes, how: How) -> Picture:
    try:
        return load_picture(source, how)
    except (ValueError, OSError) as error:
        raise _corrupt(source, error) from error


def known_profile(profile: Profile) -> Profile:
    """Check a profile option and return it.

    Raises:
        UserError: there is no such option.
    """
    if profile not in PROFILES:
        raise UserError(f'data.profile is "{profile}".', f"Give {' or '.join(PROFILES)}.")
    return profile


def _shrunk(
    size: tuple[int, int], rule: Callable[[Image.Image, int, int], Image.Image], image: Image.Image
) -> Image.Image:
    """Shrink a picture to its final size if that is smaller; pictures are enlarged last."""
    return rule(image, *size) if size[0] <= image.height and size[1] <= image.width else image


def size_and_kind(path: Path) -> tuple[int, int, str]:
    """Return height, width and pixel mode of a file from its first bytes, such as (480, 640, "RGB").

    Raises:
        CorruptImageError: as for `decode`, as far as the first bytes show.
    """
    try:
        return header(path)
    except (ValueError, OSError) as error:
        raise _corrupt(path, error) from error


def _corrupt(source: str | Path | bytes, error: ValueError | OSError) -> CorruptImageError:
    reason = (error.strerror or "").lower() if isinstance(error, OSError) else ""
    reason = reason or str(error).rstrip(".") or type(error).__name__
    return CorruptImageError("<bytes>" if isinstance(source, bytes) else source, reason)


def decode_halves(
    path: str | Path, channels: int, size: tuple[int, int], resize: str, *, profile: Profile = "srgb"
) -> tuple[Tensor, Tensor]:
    """Return the left and right halves of a file's picture as two images of the same size.

    Args:
        path: the file; with an odd number of columns, the middle one is dropped.
        channels: C, one of 1 (grey), 3 (RGB) or 4 (RGBA).
        size: (H, W) of each half in pixels.
        resize: how to reach `size`, see `resize_rule`.
        profile: as for `decode`.

    Returns:
        Two images, uint8 (C, H, W).

    Raises:
        CorruptImageError: as for `decode`, or the picture has only one column.
        UserError: an unknown resize rule.
    """
    rule = resize_rule(resize)
    picture = load(path, profile=profile)
    tell(path, picture.remarks)
    image = in_mode(picture.image, channels)
    half = image.width // 2
    if not half:
        raise CorruptImageError(path, "it is one pixel wide and has no two halves")
    left, right = (image.crop((start, 0, start + half, image.height)) for start in (0, image.width - half))
    return _pixels(rule(left, *size), channels), _pixels(rule(right, *size), channels)


_told: set[str] = set()
_telling = Lock()


def tell(source: str | Path | bytes, remarks: list[str]) -> None:
    """Log the remarks about a file: once per file, and only for the first files of a process."""
    if not remarks or isinstance(source, bytes):
        return
    with _telling:
        if str(source) in _told or len(_told) > _REMARKS_SHOWN:
            return
        _told.add(str(source))
        if len(_told) > _REMARKS_SHOWN:
            _log.warning("There are remarks about more files; `aigc data check` lists them.")
        else:
            _log.warning("%s: %s.", shown(str(source)), shown("; ".join(remarks)))


def _pixels(image: Image.Image, channels: int) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, channels)
    return pixels.permute(2, 0, 1).contiguous()


def resize_rule(name: str) -> Callable[[Image.Image, int, int], Image.Image]:
    """Return the function (image, H, W) -> image of a resize rule; all rules are bicubic with antialiasing.

    Args:
        name: "crop" (scale to cover the size, crop the centre), "pad" (scale to fit into the size, pad with white, or
            transparent in RGBA) or "stretch" (scale both sides independently).

    Raises:
        UserError: there is no such rule.
    """
    if name not in _RULES:
        raise UserError(f'There is no resize rule "{name}".', did_you_mean(name, _RULES))
    return _RULES[name]


def in_mode(image: Image.Image, channels: int) -> Image.Image:
    """Convert a picture to a number of channels, compositing transparency on white unless there are four."""
    if channels not in _MODES:
        raise UserError(f"{channels} channels were requested.", "Use 1 (grey), 3 (RGB) or 4 (RGBA).")
    if image.mode == "La":  # which Pillow can only convert to LA
        image = image.convert("LA")
    if channels != 4 and image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    # `convert` copies even if there is nothing to convert, which at 12 megapixels takes as long as resizing.
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
