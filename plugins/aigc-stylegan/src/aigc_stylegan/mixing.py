"""A sheet of images with mixed styles.

Paper: Karras et al., StyleGAN, CVPR 2019, https://arxiv.org/abs/1812.04948 (section 3.1, figure 3)
Shapes: B batch, C channels, H and W height and width in pixels, S style size, L number of styles.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from aigc_lightning.core.io.pictures import image_grid, save_png
from torch import Tensor

from aigc_stylegan.style_model import StyleModel


def mixed(style: Tensor, others: Tensor, numbers: Sequence[int]) -> Tensor:
    """Return the styles (L, S) of one image with those of some layers taken from others: (B, L, S)."""
    result = style.expand_as(others).clone()
    result[:, numbers] = others[:, numbers]
    return result


def write_mix(
    model: StyleModel, rows: Sequence[int], columns: Sequence[int], levels: str, trunc: float, out: Path
) -> list[int]:
    """Write a sheet: each row's image on the left, each column's on top, and between them the mixed ones.

    Args:
        model: the model.
        rows: seeds.
        columns: seeds from which styles are taken.
        levels: which styles, see `StyleModel.style_numbers`.
        trunc: truncation of all styles.
        out: the PNG file.

    Returns:
        The numbers of the styles taken from the columns.
    """
    numbers = model.style_numbers(levels)
    left, top = model.styles(rows, trunc), model.styles(columns, trunc)
    corner = torch.full((1, *model.model.spec.shape), 255, dtype=torch.uint8)
    corner[:, 3:] = 0  # the alpha channel, if there is one
    cells = [corner, model.images(top)]
    for style in left:
        cells += [model.images(style[None]), model.images(mixed(style, top, numbers))]
    text = model.text([*rows, *columns], "mix", rows=list(rows), columns=list(columns), levels=numbers, trunc=trunc)
    save_png(image_grid(torch.cat(cells), len(columns) + 1), out, text)
    return numbers
