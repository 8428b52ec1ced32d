"""Making pictures from a checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aigc_lightning.commands.sample import picture_text
from aigc_lightning.core.capabilities import Generator, num_sampled_classes
from aigc_lightning.core.checkpoint import file_hash, load_model
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.pictures import image_grid, near_square, save_png, to_picture, to_uint8
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.inference.model_options import model_options

_MOST_IN_GRID = 1024


class UsedModel:
    """A trained model that a command uses, and what the pictures that it makes say about it.

    Args:
        target: a run folder, a checkpoint or an exported file.
        device: such as "cpu".

    Attributes:
        model: ready for inference, on the device.
        path: the file that it comes from.

    Raises:
        UserError: the checkpoint cannot be used, or there is no such device.
    """

    def __init__(self, target: str, device: str = "cpu") -> None:
        self.path = find_checkpoint(target)
        self.model: ImageModel = load_model(self.path).to(chosen_device(device))
        self._class_path, self._digest = str(self.model.provenance()["class_path"]), file_hash(self.path)

    def text(self, seeds: Sequence[int], options: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Return the text that a picture carries, for `save_png`: that it is generated, and by what.

        Args:
            seeds: of the picture's images.
            options: whatever else it takes to make the picture again, as plain values; what is None is left out.
        """
        kept = {name: value for name, value in (options or {}).items() if value is not None}
        return picture_text(self._class_path, self.path.name, self._digest, list(seeds), kept)


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
    """Write `<seed>.png` for each seed, and `grid.png` where asked for; return the paths.

    Each image is made alone: the rounding of a matrix product depends on the batch, and seed 7 must give the same
    bytes whatever else is asked for.

    Args:
        target: a run folder, a checkpoint or an exported file.
        seeds: one at least.
        out: the folder.
        with_grid: write the grid, too.
        device: such as "cpu".
        class_name: of the images; None for what the model makes of itself.
        given: texts of the model's own options.

    Raises:
        UserError: the checkpoint cannot be used, its model does not make images or not these, or the folder cannot be
            written.
    """
    used = UsedModel(target, device)
    model = used.model
    if not isinstance(model, Generator):
        what = f"The {type(model).__name__} in {used.path} does not make images from seeds."
        raise UserError(what, "Try another model.")
    chosen = model_options(model, "sample", given or {}, ("--seeds", "--out", "--grid", "--device", "--class"))
    asked: dict[str, Any] = dict(chosen)
    if class_name is not None:
        asked["labels"] = [class_number(model, class_name)]
    record = {"class": class_name, **chosen}
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
        save_png(to_picture(image), paths[-1], used.text([seed], record))
        shown += [image] if with_grid and len(shown) < _MOST_IN_GRID else []
    if with_grid:
        grid = image_grid(torch.stack(shown), near_square(len(shown)))
        save_png(grid, out / "grid.png", used.text(seeds[: len(shown)], record))
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
