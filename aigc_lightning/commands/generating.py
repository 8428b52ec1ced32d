"""Making pictures from a checkpoint."""

from pathlib import Path
from typing import Any

import torch

from aigc_lightning.commands.sample import picture_text
from aigc_lightning.core.capabilities import Generator, num_sampled_classes
from aigc_lightning.core.checkpoint import file_hash, load_model
from aigc_lightning.core.pictures import image_grid, near_square, save_png, to_picture, to_uint8
from aigc_lightning.core.run_folder import find_checkpoint
from aigc_lightning.errors import UserError, did_you_mean

_MOST_IN_GRID = 1024


def write_samples(
    target: str, seeds: list[int], out: Path, *, with_grid: bool, device: str, class_name: str | None = None
) -> list[Path]:
    """Write `<seed>.png` for each seed, and `grid.png` where asked for; return the paths.

    Each image is made alone: the rounding of a matrix product depends on the batch, and seed 7 must give the same
    bytes whatever else is asked for.

    Raises:
        UserError: the checkpoint cannot be used, its model does not make images, or the folder cannot be written.
    """
    path = find_checkpoint(target)
    model = load_model(path)
    if not isinstance(model, Generator):
        raise UserError(f"The {type(model).__name__} in {path} does not make images from seeds.", "Try another model.")
    asked = {} if class_name is None else {"labels": [class_number(model, class_name)]}
    model.to(chosen_device(device))
    class_path, digest = str(model.provenance()["class_path"]), file_hash(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be written: {error.strerror}.", "Choose another --out.") from error
    digits = max(6, len(str(max(seeds))))
    paths: list[Path] = []
    shown: list[torch.Tensor] = []
    for seed in seeds:
        image = to_uint8(model.sample([seed], **asked))[0].cpu()
        paths.append(out / f"{seed:0{digits}d}.png")
        save_png(to_picture(image), paths[-1], picture_text(class_path, path.name, digest, [seed]))
        shown += [image] if with_grid and len(shown) < _MOST_IN_GRID else []
    if with_grid:
        text = picture_text(class_path, path.name, digest, seeds[: len(shown)])
        save_png(image_grid(torch.stack(shown), near_square(len(shown))), out / "grid.png", text)
    return paths


def class_number(model: Any, class_name: str) -> int:
    """Return the number of a class of a model that makes images by class.

    Raises:
        UserError: the model knows no classes, or not this one.
    """
    if not num_sampled_classes(model):
        raise UserError(f"This {type(model).__name__} was trained without classes.", "Leave --class out.")
    names = model.spec.class_names
    if class_name not in names:
        raise UserError(f"There is no class {class_name!r}.", did_you_mean(class_name, names) or "Give another name.")
    return int(names.index(class_name))


def chosen_device(name: str) -> torch.device:
    """Return a device.

    Raises:
        UserError: it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"There is no device {name!r} here.", "Use --device cpu, or leave it out.") from error
    return device
