"""Scores of picture files by `judge.py`.

Shapes: H and W height and width in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_style.judge import judge
from aigc_style.pictures import read_photo, read_style
from aigc_style.statistics import match_colors, resized

_LEAST = 64  # pixels of the shorter side, for two scales of filters
_MOST_STRETCH = 1.05  # difference in shape that rounding explains


class Row(NamedTuple):
    """The scores of a picture.

    Args:
        name: of the file, or what it is.
        style: error of the style relative to the photograph's.
        content: error of the content, see `judge.Scores`.
    """

    name: str
    style: float
    content: float


def judged_files(photo: Path, style: str, results: Sequence[Path]) -> list[Row]:
    """Return the scores of a photograph, of the baseline and of results.

    Args:
        photo: the photograph's file.
        style: a file, or one of `pictures.BUNDLED`.
        results: files of pictures of one size and of the photograph's shape; it is compared at their size.

    Raises:
        UserError: a file cannot be read, or the sizes do not fit.
    """
    pictures = [read_photo(path) for path in results]
    size = (pictures[0].shape[-2], pictures[0].shape[-1])
    for path, picture in zip(results, pictures, strict=True):
        if tuple(picture.shape[-2:]) != size:
            what = f"{shown(path)} has {_text(picture)} pixels and {shown(results[0])} {_text(pictures[0])}."
            raise UserError(what, "Compare results of one size at a time.")
    original, (of_style, _) = read_photo(photo), read_style(style)
    stretch = (original.shape[-1] / original.shape[-2]) / (size[1] / size[0])
    if min(size) < _LEAST or not 1 / _MOST_STRETCH <= stretch <= _MOST_STRETCH:
        what = f"{shown(results[0])} has {_text(pictures[0])} pixels and {shown(photo)} {_text(original)}."
        raise UserError(what, f"Give results of the photograph's shape, of at least {_LEAST} pixels a side.")
    original = resized(original, size)
    images = [original, match_colors(original, of_style), *pictures]
    scores = judge(images, original, of_style)
    names = [photo.name, "colours matched", *(path.name for path in results)]
    unit = max(scores[0].style, 1e-12)  # a style that is the photograph itself has no error to compare with
    return [Row(shown(name), score.style / unit, score.content) for name, score in zip(names, scores, strict=True)]


def _text(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"
