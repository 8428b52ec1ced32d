"""The callbacks that every run has, in the order in which the Trainer calls them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback

from aigc_lightning.callbacks.compiled import Compiled
from aigc_lightning.callbacks.distillation import distilling
from aigc_lightning.callbacks.ema_snapshots import EmaSnapshots
from aigc_lightning.callbacks.ending import Ending
from aigc_lightning.callbacks.held_out_scores import SlicedWasserstein
from aigc_lightning.callbacks.interruption import Interruption
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.callbacks.predictions import Predictions
from aigc_lightning.callbacks.progress import Progress
from aigc_lightning.callbacks.provenance import Provenance
from aigc_lightning.config.recorded_options import to_repeat
from aigc_lightning.config.request import Stage
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.training import privacy


def callbacks_of_training(
    parser: ArgumentParser, values: Any, built: Any, data: ImageDataModule, folder: Path, trust: Sequence[str]
) -> list[Callback]:
    """Return the callbacks of `aigc fit` in addition to the requested ones.

    Args:
        parser: of the stage.
        values: the options as they were parsed.
        built: the options with the objects that were built from them.
        data: the training data.
        folder: the run folder.
        trust: options to repeat in commands that resume the run, beside those that the values need.
    """
    trainer, repeated = built["trainer"], [*to_repeat(values), *trust]
    own = [*privacy.callbacks(built["privacy"], data, folder), *distilling(built["distill"])]
    own += [LossLog(), SlicedWasserstein(), built["grids"], Provenance(parser, values), *_progress(trainer)]
    if trainer["enable_checkpointing"]:
        own += [built["checkpoints"], *([EmaSnapshots()] if built["ema"].widths else [])]
    own += [Ending(trainer["max_time"], repeated), Interruption(repeated)]
    return [*own, *([Compiled()] if values.compile else [])]


def callbacks_of_use(stage: Stage, built: Any) -> list[Callback]:
    """Return the callbacks of `aigc validate`, `test` and `predict`.

    Args:
        stage: which of them.
        built: the options with the objects that were built from them.
    """
    return [SlicedWasserstein(), *_progress(built["trainer"]), *([Predictions()] if stage == "predict" else [])]


def _progress(trainer: Any) -> list[Callback]:
    return [] if trainer["enable_progress_bar"] is False else [Progress()]
