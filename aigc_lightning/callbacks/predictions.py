"""Files written by `aigc predict`: pictures of images, tables of logits and vectors."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from aigc_lightning.core.capabilities import Classifier
from aigc_lightning.core.io.atomic import inside, replacing
from aigc_lightning.core.io.output import csv_cell
from aigc_lightning.core.io.pictures import save_png, to_picture, to_uint8
from aigc_lightning.core.run.collectives import everyones

#: Name of the folder in the run's folder.
PREDICTIONS = "predictions"


class Predictions(pl.Callback):
    """Writes what `predict_step` returns below `predictions`, by the samples' indices in the dataset.

    Images (B, C, H, W) become `<index>.png`. Logits (B, K) of a model that classifies become `classes.csv`, with the
    most probable class and its probability; other rows (B, D) become `vectors.csv`. Anything else is not written.

    Attributes:
        written: whether there are any files.
    """

    def __init__(self) -> None:
        self.written = False
        self._rows: list[tuple[int, list[str]]] = []
        self._classifies = False

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one image per sample, or keep one row per sample."""
        if not isinstance(outputs, Tensor) or outputs.ndim not in (2, 4):
            return
        self.written = True
        indices = batch["index"].tolist()
        if outputs.ndim == 2:
            names = _class_names(pl_module, outputs)
            self._classifies = bool(names)
            self._rows += zip(indices, _class_cells(outputs, names) if names else _cells(outputs), strict=True)
            return
        folder = Path(trainer.default_root_dir)
        for index, image in zip(indices, to_uint8(outputs), strict=True):
            save_png(to_picture(image), inside(folder, PREDICTIONS, f"{index:06d}.png"), {})

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table of the rows of all processes, in the order of the samples."""
        parts = everyones((self._classifies, self._rows))
        rows = sorted(row for _, rows in parts for row in rows)
        if not rows or not trainer.is_global_zero:
            return
        classifies = any(found for found, _ in parts)
        columns = ["class", "probability"] if classifies else [f"value_{place}" for place in range(len(rows[0][1]))]
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", *columns])
        writer.writerows([index, *cells] for index, cells in rows)
        name = "classes.csv" if classifies else "vectors.csv"
        with replacing(inside(Path(trainer.default_root_dir), PREDICTIONS, name)) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")


def _class_names(model: pl.LightningModule, outputs: Tensor) -> tuple[str, ...]:
    """Return what the columns of an output mean; empty if they are not classes."""
    spec: Any = getattr(model, "spec", None)
    names: tuple[str, ...] = spec.class_names if isinstance(model, Classifier) else ()
    return names if len(names) == outputs.shape[1] else ()


def _class_cells(logits: Tensor, names: tuple[str, ...]) -> list[list[str]]:
    probabilities, classes = logits.float().softmax(1).max(1)
    pairs = zip(classes.tolist(), probabilities.tolist(), strict=True)
    return [[csv_cell(names[label]), f"{probability:.6g}"] for label, probability in pairs]


def _cells(vectors: Tensor) -> list[list[str]]:
    return [[f"{value:.9g}" for value in row] for row in vectors.float().tolist()]
