"""Grids during training: samples of fixed seeds, or edits of fixed images, and a timelapse of them."""

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate

from aigc_lightning.callbacks.loggers import log_image, warn_instead
from aigc_lightning.core.capabilities import Editor, Generator, makes_images, num_sampled_classes, takes
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.io.atomic import inside, replacing
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.pictures import image_grid, near_square, save_png, save_timelapse, to_uint8
from aigc_lightning.core.memory.sharding import whole_networks
from aigc_lightning.core.predictions import edited, input_key
from aigc_lightning.data.unreadable import LOST_KEY
from aigc_lightning.errors import UserError

#: Names in the run's folder.
GRIDS_FOLDER = "grids"
TIMELAPSE_FILE = "timelapse.gif"
_FRAME = re.compile(r"step_(\d{6,18})\.png", re.ASCII)


class Grids(pl.Callback):
    """Draws `grids/step_000500.png` of the seeds 0, 1, ... before the first step, periodically, and at the end.

    Models with classes get one class per row. `grids/seeds.txt` and the metadata of each image say which seed is where.
    Models that take prompts show the captions of held-out images instead, which `grids/captions.txt`, the metadata and
    the loggers list. When training ends, even with an error, the grids become `timelapse.gif`.

    For a model that edits, held-out images are shown side by side: input, mask and reference if the model takes them,
    output and, if there is one, target (`comparison`). These are its grids if it cannot sample, and
    `grids/edits_000500.png` if it can. Models that can do neither are ignored. Rank 0 draws while the others continue,
    so `sample` and `edit` must not wait for other processes.

    Args:
        every_n_steps: batches between grids.
        num: samples in a grid; a third as many edits, since these have two or three images each.

    Raises:
        UserError: an argument is below 1.
    """

    def __init__(self, every_n_steps: int = 500, num: int = 64) -> None:
        for name, value in {"every_n_steps": every_n_steps, "num": num}.items():
            if value < 1:
                raise UserError(f"grids.{name} is {value}.", "Give at least 1.")
        self.every_n_steps, self.num = every_n_steps, num
        #: The newest grid, None before the first.
        self.latest_path: Path | None = None
        self._latest_step = -1
        self._held_out: dict[str, Any] = {}  # a batch to edit
        self._described: dict[str, Any] = {}  # a batch with captions to draw

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw a grid before the first step, as the first frame of the timelapse."""
        self._held_out, self._described = {}, {}
        if trainer.global_step == 0:
            self._draw(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw a grid if one is due."""
        if trainer.global_step % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the final grid and the timelapse."""
        if trainer.global_step > self._latest_step:
            self._draw(trainer, pl_module)
        self._timelapse(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Make the timelapse of an interrupted run, unless its process was told to terminate and time is short."""
        if not isinstance(exception, SystemExit):
            self._timelapse(trainer)

    def _draw(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        with whole_networks(model):
            if not trainer.is_global_zero:
                return
            if makes_images(model):
                self._draw_samples(trainer, model)
            if isinstance(model, Editor):
                self._draw_edits(trainer, model)

    def _draw_samples(self, trainer: pl.Trainer, model: Generator) -> None:
        if takes(model.sample, "prompts"):
            self._described = self._described or _some_held_out(trainer, self.num)
            if "caption" in self._described:
                self._draw_captions(trainer, model)
                return
        rows = seed_rows(self.num, num_sampled_classes(model))
        grid = image_grid(to_uint8(sampled(model, [seed for row in rows for seed in row])), len(rows[0]))
        seeds = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        path = self._save(trainer, model, grid, "step", {"seeds": seeds})
        with replacing(path.with_name("seeds.txt")) as temporary:
            temporary.write_text(f"# The seed of each sample, laid out as in the grids.\n{seeds}", encoding="utf-8")
        log_image(trainer, "grids/samples", path, trainer.global_step)

    def _draw_captions(self, trainer: pl.Trainer, model: Generator) -> None:
        captions = [shown(text) for text in self._described["caption"]]
        by_class = num_sampled_classes(model) > 0 and "label" in self._described
        labels = self._described["label"].tolist() if by_class else None
        seeds = list(range(len(captions)))
        images = sampled(model, seeds, labels, prompts=self._described["caption"])
        grid = image_grid(to_uint8(images), near_square(len(images)))
        text = "".join(f"{seed}\t{caption}\n" for seed, caption in zip(seeds, captions, strict=True))
        path = self._save(trainer, model, grid, "step", {"captions": text})
        with replacing(path.with_name("captions.txt")) as temporary:
            temporary.write_text(f"# The seed and the caption of each sample, row by row.\n{text}", encoding="utf-8")
        log_image(trainer, "grids/samples", path, trainer.global_step, text)

    def _draw_edits(self, trainer: pl.Trainer, model: Editor) -> None:
        if not self._held_out:
            self._held_out = _some_held_out(trainer, max(1, self.num // 3))
        if not self._held_out:
            return
        columns = comparison(model, self._held_out)
        cells = side_by_side(list(columns.values()))
        groups = max(1, round(near_square(len(cells)) / len(columns)))
        grid = image_grid(cells, groups * len(columns), group=len(columns))
        stem = "edits" if makes_images(model) else "step"
        captions = self._held_out.get("caption", []) if takes(model.edit, "prompts") else []
        listed = "".join(f"{shown(caption)}\n" for caption in captions)
        text = {"columns": " | ".join(columns), **({"captions": listed} if listed else {})}
        path = self._save(trainer, model, grid, stem, text)
        log_image(trainer, "grids/edits", path, trainer.global_step, listed)

    def _save(self, trainer: pl.Trainer, model: object, grid: Image, stem: str, text: dict[str, str]) -> Path:
        """Write a grid of the current step; grids named `step` are frames of the timelapse."""
        step = trainer.global_step
        path = inside(Path(trainer.default_root_dir), GRIDS_FOLDER, f"{stem}_{step:06d}.png")
        save_png(grid, path, {"model": type(model).__name__, "step": str(step), **text})
        if stem == "step":
            self.latest_path, self._latest_step = path, step
        return path

    def _timelapse(self, trainer: pl.Trainer) -> None:
        folder = Path(trainer.default_root_dir)
        if not trainer.is_global_zero or not (folder / GRIDS_FOLDER).is_dir():
            return
        found = ((_FRAME.fullmatch(path.name), path) for path in (folder / GRIDS_FOLDER).iterdir())
        steps = {int(match[1]): path for match, path in found if match and path.is_file() and not path.is_symlink()}
        # A run that was resumed from an earlier step may have left later grids behind.
        pictures = [steps[step] for step in sorted(steps) if step <= trainer.global_step]
        if pictures:
            with warn_instead("The timelapse was not made"):
                save_timelapse(pictures, folder / TIMELAPSE_FILE)


def seed_rows(num: int, num_classes: int = 0) -> list[list[int]]:
    """Return the seeds 0, 1, ... in rows: near-square, or one class per row for models with classes.

    Since seed s has the class s mod K by default, each row holds every K-th seed.

    Args:
        num: number of samples; with classes it is rounded down to full rows.
        num_classes: K, 0 for models without classes. If it exceeds `num`, the rows are near-square.
    """
    if 0 < num_classes <= num:
        return [list(range(row, num // num_classes * num_classes, num_classes)) for row in range(num_classes)]
    columns = near_square(num)
    return [list(range(first, min(first + columns, num))) for first in range(0, num, columns)]


def comparison(model: Editor, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Return the columns of a model's edit grid by name, images (B, C, H, W) in [-1, 1] each.

    A model can define a method `comparison` that takes a batch and returns such columns. By default these are the
    input, the mask and the reference if the model takes them, the edited image, and the target if the batch has one.
    """
    own = getattr(model, "comparison", None)
    if callable(own):
        columns: dict[str, Tensor] = own(batch)
        return columns
    source = input_key(batch)
    columns = {source: batch[source]}
    if takes(model.edit, "masks") and "mask" in batch:
        columns["mask"] = batch["mask"] * 2 - 1
    if takes(model.edit, "references") and "reference" in batch:
        columns["reference"] = batch["reference"]
    columns["edited"] = edited(model, batch, source)
    target = _TARGETS.get(source)
    return {**columns, target: batch[target]} if target in batch else columns


#: The target of each input.
_TARGETS = {"degraded": "image", "source": "target"}


def side_by_side(columns: list[Tensor]) -> Tensor:
    """Return the images of all columns, uint8 (B * columns, C, H, W), sample by sample, small ones enlarged to fit."""
    height, width = (max(column.shape[side] for column in columns) for side in (-2, -1))
    channels = max(column.shape[1] for column in columns)
    cells = []
    for column in columns:
        images = interpolate(to_uint8(column).cpu(), size=(height, width), mode="nearest")
        if images.shape[1] == 1 < channels:
            opaque = torch.full_like(images, 255)
            images = torch.cat([images] * 3 + [opaque] * (channels - 3), dim=1)
        cells.append(images)
    return torch.stack(cells, dim=1).flatten(0, 1)


def _some_held_out(trainer: pl.Trainer, num: int) -> dict[str, Any]:
    """Return a fixed batch of at most this many held-out samples of the run's data; empty without data."""
    data: Any = getattr(trainer, "datamodule", None)
    if data is None:
        return {}
    loader = data.val_dataloader()
    if hasattr(loader.dataset, "__getitems__"):  # our data modules: evenly spaced, and without loader processes
        order = list(loader.sampler)
        num = min(num, len(order))
        batch = loader.dataset.__getitems__([order[number * len(order) // num] for number in range(num)])
        batch.pop(LOST_KEY, None)  # validation counts them
    else:
        batch = next(iter(loader))
    return {key: value[:num] if isinstance(value, Tensor | list) else value for key, value in batch.items()}
