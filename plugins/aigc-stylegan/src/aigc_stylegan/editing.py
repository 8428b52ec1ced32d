"""Sheets of images edited along directions.

Shapes: S style size, L number of styles, N number of noise inputs, D number of directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.core.io.pictures import image_grid, save_png
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_stylegan.directions import KIND
from aigc_stylegan.projection import LATENT_KIND
from aigc_stylegan.style_model import StyleModel


class Start(NamedTuple):
    """An image to edit.

    Args:
        styles: (L, S).
        noise: (1, N), or None for the fixed noise.
        record: plain values that identify the image.
        seed: seed of the image; None for a projected one.
    """

    styles: Tensor
    noise: Tensor | None
    record: dict[str, Any]
    seed: int | None = None


@dataclass(frozen=True)
class Edit:
    """The directions and strengths of an edit.

    Args:
        path: file with the directions.
        chosen: numbers of the directions to use.
        ends: first and last strength, in standard deviations of the styles.
        columns: number of strengths from the first to the last.
        levels: styles to move, see `StyleModel.style_numbers`; None for those of the file.
    """

    path: Path
    chosen: Sequence[int]
    ends: tuple[float, float]
    columns: int
    levels: str | None = None


def seed_starts(model: StyleModel, seeds: Sequence[int], trunc: float) -> list[Start]:
    """Return the images of seeds, to edit."""
    return [
        Start(styles, None, {"trunc": trunc}, seed)
        for seed, styles in zip(seeds, model.styles(seeds, trunc), strict=True)
    ]


def latent_starts(model: StyleModel, paths: Sequence[Path]) -> list[Start]:
    """Return the projected images in some files, to edit.

    Raises:
        UserError: one of them cannot be used with this model.
    """
    starts = []
    for path in paths:
        tensors, _ = model.load(path, LATENT_KIND, ("styles", "noise"))
        styles = tensors["styles"].expand(model.num_styles, -1)
        starts.append(Start(styles, tensors["noise"], {path.name: file_hash(path)}))
    return starts


def moved(styles: Tensor, direction: Tensor, strengths: Tensor, numbers: Sequence[int]) -> Tensor:
    """Return the styles of an image with those of some layers moved along a direction, (B, L, S).

    Args:
        styles: (L, S).
        direction: (S,).
        strengths: (B,), factors of the direction.
        numbers: numbers of the styles to move.
    """
    result = styles.repeat(len(strengths), 1, 1)
    result[:, numbers] += (strengths[:, None] * direction)[:, None]
    return result


def write_edit(model: StyleModel, starts: Sequence[Start], edit: Edit, out: Path) -> list[int]:
    """Write a sheet with one row per image and direction, whose strength increases to the right.

    Args:
        model: the model.
        starts: the images.
        edit: the directions and strengths.
        out: the PNG file.

    Returns:
        The numbers of the styles that were moved.

    Raises:
        UserError: the directions belong to another model, or there is no such direction or style.
    """
    tensors, found = model.load(edit.path, KIND, ("directions", "deviations"))
    directions = tensors["directions"] * tensors["deviations"][:, None]
    if max(edit.chosen) >= len(directions):
        raise UserError(
            f"{edit.path} has no direction {max(edit.chosen)}.", f"It has {len(directions)}, the first being 0."
        )
    levels = ",".join(map(str, found.get("levels", []))) if edit.levels is None else edit.levels
    numbers = model.style_numbers(levels)
    strengths = torch.linspace(*edit.ends, edit.columns).to(directions)
    cells = []
    for start in starts:
        for number in edit.chosen:
            styles = moved(start.styles, directions[number], strengths, numbers)
            cells.append(model.images(styles, start.noise))
    options = {
        "directions": {edit.path.name: file_hash(edit.path)},
        "direction": list(edit.chosen),
        "strength": list(edit.ends),
        "columns": edit.columns,
        "levels": numbers,
    }
    if starts[0].seed is None:
        options["latent"] = {name: digest for start in starts for name, digest in start.record.items()}
    else:
        options |= starts[0].record
    seeds = [start.seed for start in starts if start.seed is not None]
    save_png(image_grid(torch.cat(cells), edit.columns), out, model.text(seeds, "edit", **options))
    return numbers
