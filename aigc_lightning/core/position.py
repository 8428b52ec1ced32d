"""Where a run stands."""

from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.loops.progress import _ProcessedTracker


def batches_done(trainer: pl.Trainer | None) -> int:
    """Return the number of training batches that were finished in this and earlier parts of the run."""
    if trainer is None:
        return 0
    return cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total).processed


def place_in_stream(trainer: pl.Trainer | None) -> int:
    """Return how many batches lie before the next one in the stream of training samples.

    With `overfit_batches` each epoch begins at the start of the stream again.
    """
    done = batches_done(trainer)
    if trainer is None or not trainer.overfit_batches:  # type: ignore[attr-defined]  # set by a helper of the trainer
        return done
    return done % max(1, int(trainer.num_training_batches))


def as_interrupted(loops: dict[str, Any]) -> None:
    """Change the state of a run that came to its end into that of one that is to go on, in place.

    Lightning closes the epoch in which a run ends. A run that goes on from there would count one epoch too many, or end
    its next epoch after a single batch.

    Args:
        loops: what a checkpoint holds under that name.
    """
    epochs = loops["fit_loop"]["epoch_progress"]
    batches = loops["fit_loop"]["epoch_loop.batch_progress"]
    if epochs["total"]["completed"] != epochs["total"]["ready"] or not batches["current"]["ready"]:
        return  # saved within the epoch
    if batches["is_last_batch"]:
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False
        return
    for span in ("current", "total"):
        epochs[span]["processed"] -= 1
        epochs[span]["completed"] -= 1
        batches[span]["completed"] -= 1
