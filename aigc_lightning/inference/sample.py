"""Sampling pictures from seeds into files."""

from collections.abc import Mapping
from pathlib import Path

import torch

from aigc_lightning.core.chunks import ON_PROCESSORS, chunk_size, sampled_chunks
from aigc_lightning.core.io.pictures import (
    image_grid,
    is_written,
    near_square,
    read_pixels,
    save_png,
    to_picture,
    to_uint8,
)
from aigc_lightning.data.console import watched
from aigc_lightning.errors import UserError
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.model_options import model_options

_MOST_IN_GRID = 1024


def write_samples(
    target: str,
    seeds: list[int],
    out: Path,
    *,
    with_grid: bool,
    device: str,
    class_name: str | None = None,
    given: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write `<seed>.png` for each seed and, if requested, `grid.png`; return the paths.

    Pictures that are there already and say that they were made in the same way are kept, so that a call that was
    interrupted goes on where it stopped.

    Args:
        target: a run folder, a checkpoint or an exported file.
        seeds: at least one.
        out: the folder.
        with_grid: also write the grid.
        device: such as "cpu".
        class_name: class of the images; None for the model's default.
        given: values of the model's own options, as texts.

    Raises:
        UserError: the checkpoint cannot be used, its model cannot generate these images, or the folder cannot be
            written to.
    """
    loaded = LoadedModel(target, device)
    known = ("--seeds", "--out", "--grid", "--device", "--class")
    chosen = model_options(loaded.generator(), "sample", given or {}, known)
    if class_name is not None:
        loaded.class_number(class_name)  # which knows it, before anything is written
    chunk = chunk_size(loaded.model)
    record = {"class": class_name, "chunk": None if chunk == ON_PROCESSORS else chunk, **chosen}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be written: {error.strerror}.", "Choose another --out.") from error
    paths = [out / f"{seed:0{max(6, len(str(max(seeds))))}d}.png" for seed in seeds]
    texts = [loaded.text([seed], record) for seed in seeds]
    missing = [place for place, path in enumerate(paths) if not is_written(path, texts[place])]
    labels = None if class_name is None else [loaded.class_number(class_name)] * len(missing)
    chunks = sampled_chunks(loaded.generator(), [seeds[place] for place in missing], labels, **chosen)
    images = (image for chunk in chunks for image in to_uint8(chunk).cpu())
    for place, image in zip(missing, watched(images, "Sampling", len(missing)), strict=True):
        save_png(to_picture(image), paths[place], texts[place])
    if with_grid:
        shown = paths[:_MOST_IN_GRID]
        grid = image_grid(torch.stack([read_pixels(path) for path in shown]), near_square(len(shown)))
        save_png(grid, out / "grid.png", loaded.text(seeds[: len(shown)], record))
    return paths
