"""Where a run stands."""

from typing import cast

import lightning.pytorch as pl
from lightning.pytorch.loops.progress import _ProcessedTracker


def batches_done(trainer: pl.Trainer | None) -> int:
    """Return the number of training batches that were finished in this and earlier parts of the run."""
    if trainer is None:
        return 0
    return cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total).processed
