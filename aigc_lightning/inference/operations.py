"""Plain operations on pictures, written as text: `crop=256x256,rotate=90,brightness=1.2`. Pillow only, no model.

Packages add operations for what models return, by entry points in the group `aigc_lightning.operations`: functions of
the value that the user wrote, "" for none, that return a function of the result and of the picture that the model saw.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageEnhance, ImageFilter

from aigc_lightning import plugins
from aigc_lightning.errors import UserError, did_you_mean

Picture = Image.Image
_LARGEST_MEDIAN = 31  # pixels; the filter's running time grows with its area
_QUARTERS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
#: Fill colour of the corners: white, or transparent if the picture has transparency.
_GROUND: dict[str, int | tuple[int, ...]] = {"L": 255, "RGB": (255, 255, 255), "RGBA": (255, 255, 255, 0)}
_MOVING = ("crop", "rotate", "flip")
_FLIPS = {"h": Image.Transpose.FLIP_LEFT_RIGHT, "v": Image.Transpose.FLIP_TOP_BOTTOM}


@dataclass(frozen=True)
class Operation:
    """One operation with its value.

    Args:
        text: as written by the user, such as "rotate=90".
        apply: maps a picture in mode L, RGB or RGBA, and the picture that the model saw, to a new one in the mode of
            the first; raises `UserError` if a picture is too small for it or does not fit.
    """

    text: str
    apply: Callable[[Picture, Picture], Picture]

    @property
    def moves_pixels(self) -> bool:
        """Whether a mask of the picture before it does not fit the picture after it."""
        return self.text.partition("=")[0] in _MOVING


def parse_operations(text: str, *, after_model: bool = False) -> list[Operation]:
    """Return the operations of a text such as "rotate=90,flip=h", in the order written.

    crop=WxH (pixels, from the centre) or crop=WxH+X+Y (X from the left, Y from the top); rotate=DEGREES (clockwise);
    flip=h (mirror left to right) or flip=v (top to bottom); brightness=F, contrast=F and sharpen=F, where 1
    changes nothing; denoise=N (median of N x N pixels, N odd).

    Args:
        text: operations, separated by commas.
        after_model: whether they work on what a model returns, so that those of packages can be used.

    Raises:
        UserError: an unknown operation, or an invalid value for one.
    """
    return [_parsed(part.strip(), after_model) for part in text.split(",")]


def apply_operations(picture: Picture, operations: list[Operation], original: Picture | None = None) -> Picture:
    """Apply a chain of operations to a picture.

    Args:
        picture: in mode L, RGB or RGBA.
        operations: the chain.
        original: what the model saw, if the picture is its result.

    Raises:
        UserError: a picture is too small for one of them, or does not fit.
    """
    seen = picture if original is None else original
    for operation in operations:
        picture = operation.apply(picture, seen)
    return picture


def _parsed(text: str, after_model: bool) -> Operation:
    name, _, value = text.partition("=")
    if name not in _MAKERS:
        return _of_package(text, after_model)
    make, form = _MAKERS[name]
    apply = make(value)
    if apply is None:
        raise UserError(f"The operation {text!r} has an invalid value.", f"Write {form}.")
    return Operation(text, lambda picture, original: apply(picture))


def _of_package(text: str, after_model: bool) -> Operation:
    name, _, value = text.partition("=")
    known = {plugins.normalized(plugin.name) for plugin in plugins.plugins("operation")}
    if plugins.normalized(name.rpartition(":")[2]) not in known:
        raise UserError(f"There is no operation {name!r}.", did_you_mean(name, [*_MAKERS, *known]))
    if not after_model:
        raise UserError(f"The operation {name!r} works on what a model returns.", f"Write --after {text}.")
    return Operation(text, plugins.find("operation", name).load()(value))


def _crop(value: str) -> Callable[[Picture], Picture] | None:
    found = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})(?:\+(\d{1,9})\+(\d{1,9}))?", value, re.ASCII)
    if not found:
        return None
    width, height = int(found[1]), int(found[2])

    def apply(picture: Picture) -> Picture:
        left = (picture.width - width) // 2 if found[3] is None else int(found[3])
        top = (picture.height - height) // 2 if found[4] is None else int(found[4])
        if left < 0 or top < 0 or left + width > picture.width or top + height > picture.height:
            raise UserError(
                f"crop={value} does not fit into a picture of {picture.width}x{picture.height} pixels.",
                "Crop less, or leave the picture out.",
            )
        return picture.crop((left, top, left + width, top + height))

    return apply


def _rotate(value: str) -> Callable[[Picture], Picture] | None:
    number = _number(value)
    if number is None:
        return None
    degrees = number % 360

    def apply(picture: Picture) -> Picture:
        if degrees == 0:
            return picture
        if degrees in _QUARTERS:
            return picture.transpose(_QUARTERS[int(degrees)])
        return picture.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=_GROUND[picture.mode])

    return apply


def _flip(value: str) -> Callable[[Picture], Picture] | None:
    return (lambda picture: picture.transpose(_FLIPS[value])) if value in _FLIPS else None


def _enhanced(kind: Callable[[Picture], ImageEnhance._Enhance]) -> Callable[[str], Callable[[Picture], Picture] | None]:
    def make(value: str) -> Callable[[Picture], Picture] | None:
        factor = _number(value)
        if factor is None or factor < 0:
            return None
        return lambda picture: _on_colours(picture, lambda colours: kind(colours).enhance(factor))

    return make


def _denoise(value: str) -> Callable[[Picture], Picture] | None:
    size = int(value) if re.fullmatch(r"\d{1,3}", value, re.ASCII) else 0
    if size % 2 == 0 or not 3 <= size <= _LARGEST_MEDIAN:
        return None
    return lambda picture: _on_colours(picture, lambda colours: colours.filter(ImageFilter.MedianFilter(size)))


def _on_colours(picture: Picture, change: Callable[[Picture], Picture]) -> Picture:
    """Change the colours of a picture but not its transparency."""
    if picture.mode != "RGBA":
        return change(picture)
    changed = change(picture.convert("RGB"))
    changed.putalpha(picture.getchannel("A"))
    return changed


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


#: By name: the factory that turns a value into a function, or returns None for an invalid value; and the syntax.
_MAKERS: dict[str, tuple[Callable[[str], Callable[[Picture], Picture] | None], str]] = {
    "crop": (_crop, "crop=WIDTHxHEIGHT, or crop=WIDTHxHEIGHT+X+Y with the position of the corner"),
    "rotate": (_rotate, "rotate=90, in degrees clockwise"),
    "flip": (_flip, "flip=h (mirror left to right) or flip=v (top to bottom)"),
    "brightness": (_enhanced(ImageEnhance.Brightness), "brightness=1.2; 1 changes nothing"),
    "contrast": (_enhanced(ImageEnhance.Contrast), "contrast=1.2; 1 changes nothing"),
    "sharpen": (_enhanced(ImageEnhance.Sharpness), "sharpen=2; 1 changes nothing, 0 smooths"),
    "denoise": (_denoise, f"denoise=3, the odd side of the median window, from 3 to {_LARGEST_MEDIAN} pixels"),
}
