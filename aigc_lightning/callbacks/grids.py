"""Grids of samples during training, always of the same seeds, and a timelapse of them."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from aigc_lightning.callbacks.loggers import log_image, warn_instead
from aigc_lightning.core.capabilities import Generator
from aigc_lightning.core.files import replacing
from aigc_lightning.core.pictures import image_grid, near_square, save_png, save_timelapse, to_uint8
from aigc_lightning.errors import UserError

#: Names in the run's folder.
GRIDS_FOLDER = "grids"
TIMELAPSE_FILE = "timelapse.gif"


class Grids(pl.Callback):
    """Draws `grids/step_000500.png` of the seeds 0, 1, ... at a cadence, before the first step and at the end.

    `grids/seeds.txt` and each picture's text say which seed is where. When training ends, well or not, the grids
    become `timelapse.gif`. Models that cannot sample are left alone. The first process samples while the others go on,
    so a model's `sample` must not wait for other processes.

    Args:
        every_n_steps: draw after so many batches.
        num: samples in a grid.

    Raises:
        UserError: a number below 1.
    """

    def __init__(self, every_n_steps: int = 500, num: int = 64) -> None:
        for name, value in {"every_n_steps": every_n_steps, "num": num}.items():
            if value < 1:
                raise UserError(f"grids.{name} is {value}.", "Give at least 1.")
        self.every_n_steps, self.num = every_n_steps, num
        #: The newest grid, None before the first.
        self.latest_path: Path | None = None
        self._latest_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what the model makes before its first step, which is where the timelapse begins."""
        if trainer.global_step == 0:
            self._draw(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw when it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what the model makes in the end, and the timelapse."""
        if trainer.global_step > self._latest_step:
            self._draw(trainer, pl_module)
        self._timelapse(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Make the timelapse of an interrupted run, except where its process was told to end and time is short."""
        if not isinstance(exception, SystemExit):
            self._timelapse(trainer)

    def _draw(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(model, Generator):
            return
        step = trainer.global_step
        columns = near_square(self.num)
        grid = image_grid(to_uint8(model.sample(range(self.num))), columns)
        rows = [range(first, min(first + columns, self.num)) for first in range(0, self.num, columns)]
        seeds = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        path = Path(trainer.default_root_dir) / GRIDS_FOLDER / f"step_{step:06d}.png"
        save_png(grid, path, {"model": type(model).__name__, "step": str(step), "seeds": seeds})
        with replacing(path.with_name("seeds.txt")) as temporary:
            temporary.write_text(f"# The seed of each sample, laid out as in the grids.\n{seeds}", encoding="utf-8")
        self.latest_path, self._latest_step = path, step
        log_image(trainer, "grids/samples", path, step)

    def _timelapse(self, trainer: pl.Trainer) -> None:
        folder = Path(trainer.default_root_dir)
        if not trainer.is_global_zero or not (folder / GRIDS_FOLDER).is_dir():
            return
        steps = {int(path.stem.removeprefix("step_")): path for path in (folder / GRIDS_FOLDER).glob("step_*.png")}
        # A run that was resumed from an earlier step may have left later grids behind.
        pictures = [steps[step] for step in sorted(steps) if step <= trainer.global_step]
        if pictures:
            with warn_instead("The timelapse was not made"):
                save_timelapse(pictures, folder / TIMELAPSE_FILE)
