"""Periodic snapshots of power-function averages."""

from pathlib import Path

import lightning.pytorch as pl

from aigc_lightning.callbacks.after_step import AfterStep
from aigc_lightning.core.ema_snapshots import save_snapshots
from aigc_lightning.core.image_model import ImageModel


class EmaSnapshots(AfterStep):
    """Saves the power-function averages every `ema.snapshot_every` steps and at the end, for `aigc ema`."""

    def __init__(self) -> None:
        self._saved_step = -1

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if snapshots are due."""
        assert isinstance(pl_module, ImageModel)
        if trainer.global_step % pl_module.ema_settings.snapshot_every == 0:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last averages."""
        self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        assert isinstance(model, ImageModel)
        if trainer.is_global_zero and trainer.global_step > max(0, self._saved_step) and model.averages:
            save_snapshots(model, Path(trainer.default_root_dir), trainer.global_step)
        self._saved_step = trainer.global_step
