"""Sampling pictures from seeds into files."""

from collections.abc import Mapping
from pathlib import Path

import torch

from aigc_lightning.core.io.pictures import image_grid, near_square, save_png, to_picture, to_uint8
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
        loaded.class_number(class_name)  # fails for an unknown class before anything is written
    record = {"class": class_name, **chosen}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be written: {error.strerror}.", "Choose another --out.") from error
    digits = max(6, len(str(max(seeds))))
    paths: list[Path] = []
    shown: list[torch.Tensor] = []
    for seed in seeds:
        image = to_uint8(loaded.sample([seed], class_name, **chosen))[0].cpu()
        paths.append(out / f"{seed:0{digits}d}.png")
        save_png(to_picture(image), paths[-1], loaded.text([seed], record))
        shown += [image] if with_grid and len(shown) < _MOST_IN_GRID else []
    if with_grid:
        grid = image_grid(torch.stack(shown), near_square(len(shown)))
        save_png(grid, out / "grid.png", loaded.text(seeds[: len(shown)], record))
    return paths
