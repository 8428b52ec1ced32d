"""Images written by `aigc predict`."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from aigc_lightning.core.io.atomic import inside
from aigc_lightning.core.io.pictures import save_png, to_picture, to_uint8


class Predictions(pl.Callback):
    """Writes the images that `predict_step` returns as `predictions/<index>.png`, index as in the dataset."""

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one image per sample."""
        if not isinstance(outputs, Tensor):
            return
        folder = Path(trainer.default_root_dir)
        for index, image in zip(batch["index"].tolist(), to_uint8(outputs), strict=True):
            save_png(to_picture(image), inside(folder, "predictions", f"{index:06d}.png"), {})
