"""Periodic checkpoints by steps or minutes: the last, the best, and others on request."""

import time
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_warn

from aigc_lightning.callbacks.after_step import AfterStep
from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.core.io.atomic import inside, replacing
from aigc_lightning.core.io.checksums import with_checksums
from aigc_lightning.core.records import checked_state
from aigc_lightning.core.run.collectives import Poll
from aigc_lightning.core.run.folder import BEST, CHECKPOINTS, LAST
from aigc_lightning.errors import UserError, did_you_mean


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, then replaces it atomically: a kill or a full disk never loses both.

    Lightning writes through the temporary folder, where a kill leaves a file of the checkpoint's size.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the file; only tensors and plain values go in.

        Raises:
            OSError: the file cannot be written, for example because the disk is full; the old one is intact.
        """
        if storage_options is not None:
            raise TypeError(f"{type(self).__name__} does not support storage_options")
        try:
            with replacing(Path(path)) as temporary, with_checksums(), temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch closes its archive, which fails in turn and hides the original error
            cause = error.__context__
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            raise

    def load_checkpoint(self, path: Any, *given: Any, **options: Any) -> dict[str, Any]:
        """Return the contents of a checkpoint, on the CPU, after verifying its checksums; plain values only.

        Raises:
            UserError: it is damaged, or was not written by this program.
        """
        return read_checkpoint(Path(path))


def unknown_score(option: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a monitored score that no validation computes.

    Args:
        option: the option that names the score.
        name: the name of the score.
        known: the available scores.
    """
    scores = sorted(known)
    near = did_you_mean(name, scores)
    listed = f"Scores of this run: {', '.join(scores) or 'none'}."
    return UserError(
        f"{option} is {name!r}, but no score has that name.", f"{near} {listed}" if near[:3] == "Did" else listed
    )


class Checkpoints(AfterStep, Checkpoint):
    """Saves `checkpoints/last.ckpt` periodically and at the end, and `checkpoints/best.ckpt` when a score improves.

    Args:
        every_n_steps: batches between saves; None to disable.
        every_n_minutes: minutes between saves; None to disable.
        keep_every_n_steps: also keep `step_0005000.ckpt` at multiples of this; None keeps none.
        monitor: the score of `best.ckpt`, such as "val/sliced_wasserstein"; "auto" for the score that the model names,
            for which lower is better; None keeps no best checkpoint.
        mode: whether the best score is the smallest ("min") or the largest ("max").

    Raises:
        UserError: an interval is not positive; "max" is combined with "auto"; or, in training, the first validation
            does not compute the score.
    """

    def __init__(
        self,
        every_n_steps: int | None = 1000,
        every_n_minutes: float | None = 10.0,
        keep_every_n_steps: int | None = None,
        monitor: str | None = "auto",
        mode: Literal["min", "max"] = "min",
    ) -> None:
        cadences = {"every_n_steps": every_n_steps, "every_n_minutes": every_n_minutes}
        for name, value in {**cadences, "keep_every_n_steps": keep_every_n_steps}.items():
            if value is not None and value <= 0:
                raise UserError(f"checkpoints.{name} is {value}.", "Give a positive number, or null for none.")
        if monitor == "auto" and mode == "max":
            raise UserError("checkpoints.mode is max and checkpoints.monitor auto.", "Name the score to monitor.")
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.keep_every_n_steps = keep_every_n_steps
        self.monitor, self.mode = monitor, mode
        self.best_score: float | None = None
        self._found = False  # whether a validation had the score
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._poll = Poll()

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far, so that a resumed run does not replace a better checkpoint."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score."""
        self.best_score = checked_state(state_dict, {"best_score": (float, NoneType)}, "checkpoints")["best_score"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting minutes, and warn if the monitored score will never be computed."""
        if self.monitor not in (None, "auto") and not trainer.enable_validation:
            rank_zero_warn(f"The run has no validation, so no best checkpoint by {self.monitor} is kept.")
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        super().on_train_start(trainer, pl_module)

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if a checkpoint is due."""
        step = trainer.global_step
        if self.keep_every_n_steps and step % self.keep_every_n_steps == 0:
            self._save(trainer, f"step_{step:07d}.ckpt")
        if (self.every_n_steps and step % self.every_n_steps == 0) or self._minutes_are_over(trainer):
            self.save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best checkpoint if the score improved."""
        if trainer.sanity_checking or not trainer.fit_loop.epoch_loop.global_step or self.monitor is None:
            return
        monitor = getattr(pl_module, "monitor", None) if self.monitor == "auto" else self.monitor
        value = trainer.callback_metrics.get(monitor) if monitor else None
        if trainer.state.fn != "fit":
            return
        if value is None:
            self._check_monitor(trainer)
            return
        self._found = True
        score = float(value)
        sign = 1 if self.mode == "min" else -1
        if score == score and (self.best_score is None or sign * score < sign * self.best_score):
            self.best_score = score
            self._save(trainer, BEST)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state."""
        if trainer.global_step > self._saved_step:
            self.save_last(trainer)

    def _check_monitor(self, trainer: pl.Trainer) -> None:
        """Refuse a score that nothing logs, unless a callback has announced it for a later validation."""
        if self.monitor in (None, "auto") or self._found:
            return
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a helper of the trainer
        announced = {name for callback in callbacks for name in getattr(callback, "score_names", ())}
        if self.monitor not in announced:
            raise unknown_score("checkpoints.monitor", str(self.monitor), {*trainer.callback_metrics, *announced})

    def _minutes_are_over(self, trainer: pl.Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        due = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        if trainer.world_size == 1:
            return due
        # Clocks differ between processes and saving is collective, so the processes agree on it periodically.
        if trainer.global_step % 50:
            return False
        return bool(self._poll.largest(due, trainer.strategy.root_device))

    def save_last(self, trainer: pl.Trainer) -> None:
        """Save `last.ckpt` now, in all processes together."""
        self._save(trainer, LAST)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        path = inside(Path(trainer.default_root_dir), CHECKPOINTS, name)
        trainer.save_checkpoint(str(path), weights_only=False)  # with optimizers: all that a resumed run needs
