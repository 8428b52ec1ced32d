"""Random masks as functions of their keys: strokes, boxes, borders and text.

Paper: Yu et al., Free-Form Image Inpainting with Gated Convolution, ICCV 2019, https://arxiv.org/abs/1806.03589,
section 3.5 (strokes as random walks)
Shapes: H and W height and width in pixels.
"""

import math
import string
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import numpy as np
import torch
from aigc_lightning.core import keyed
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MaskKind = Literal["irregular", "box", "outpainting", "text"]
_MOST_STROKES, _MOST_CORNERS, _MOST_WORDS = 60, 12, 1000
_SMALLEST_FONT = 6  # pixels
_CHARACTERS = string.ascii_letters + string.digits


def random_mask(kind: MaskKind, height: int, width: int, share: float, *key: int) -> Tensor:
    """Return a mask, uint8 (1, H, W), 255 in the hole and 0 elsewhere; the hole is not empty, and not everything.

    Args:
        kind: "irregular" (strokes), "box" (a rectangle inside), "outpainting" (one side of the image) or "text".
        height: H.
        width: W.
        share: of the image, from 0 to 1, that the hole has approximately; strokes and words may exceed it by one.
        *key: of the random numbers.
    """
    numbers = _numbers(*key)
    picture = Image.new("L", (width, height))
    _DRAW[kind](picture, share, numbers)
    mask = torch.from_numpy(np.array(picture))
    if not mask.any():
        mask[int(next(numbers) * height), int(next(numbers) * width)] = 255
    if mask.all():
        mask[0, 0] = 0
    return mask[None]


def _numbers(*key: int) -> Iterator[float]:
    generator = keyed.generator(*key)
    while True:
        yield from torch.rand(64, generator=generator).tolist()


def _strokes(picture: Image.Image, share: float, numbers: Iterator[float]) -> None:
    draw, side = ImageDraw.Draw(picture), max(picture.size)
    for _ in range(_MOST_STROKES):
        thickness = max(1, round(side * (0.02 + 0.08 * next(numbers))))
        x, y = next(numbers) * picture.width, next(numbers) * picture.height
        angle = 2 * math.pi * next(numbers)
        for _ in range(2 + int(next(numbers) * (_MOST_CORNERS - 2))):
            angle += (next(numbers) - 0.5) * math.pi
            length = side * (0.05 + 0.2 * next(numbers))
            before, x, y = (x, y), x + length * math.cos(angle), y + length * math.sin(angle)
            draw.line([before, (x, y)], 255, thickness)
            radius = thickness / 2
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], 255)
            if np.asarray(picture).mean() >= 255 * share:
                return


def _box(picture: Image.Image, share: float, numbers: Iterator[float]) -> None:
    stretch = 2 ** (2 * next(numbers) - 1)
    width = min(max(1, round(picture.width * math.sqrt(share * stretch))), picture.width)
    height = min(max(1, round(picture.height * math.sqrt(share / stretch))), picture.height)
    left, top = (
        int(next(numbers) * (whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
    )
    picture.paste(255, (left, top, left + width, top + height))


def _side(picture: Image.Image, share: float, numbers: Iterator[float]) -> None:
    across = next(numbers) < 0.5
    whole = picture.width if across else picture.height
    part = max(1, round(whole * share))
    start = 0 if next(numbers) < 0.5 else whole - part
    box = (start, 0, start + part, picture.height) if across else (0, start, picture.width, start + part)
    picture.paste(255, box)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _words(picture: Image.Image, share: float, numbers: Iterator[float]) -> None:
    draw, side = ImageDraw.Draw(picture), min(picture.size)
    draw.fontmode = "1"  # no grey edges
    for _ in range(_MOST_WORDS):
        size = max(_SMALLEST_FONT, round(side * (0.06 + 0.14 * next(numbers))))
        letters = [_CHARACTERS[int(next(numbers) * len(_CHARACTERS))] for _ in range(3 + int(next(numbers) * 8))]
        # A word may begin outside, so that all pixels are about equally likely.
        place = (next(numbers) * 1.5 - 0.5) * picture.width, next(numbers) * (picture.height + size) - size
        draw.text(place, "".join(letters), 255, _font(size))
        if np.asarray(picture).mean() >= 255 * share:
            return


_DRAW: dict[MaskKind, Callable[[Image.Image, float, Iterator[float]], None]] = {
    "irregular": _strokes,
    "box": _box,
    "outpainting": _side,
    "text": _words,
}
