"""Where a run stands, and whether another one could go on from there."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from aigc_lightning.core.records import checked_state
from aigc_lightning.core.sampler import StreamSampler
from aigc_lightning.errors import UserError

#: What a checkpoint says about the stream of samples: how many all processes have seen, how many they take a step, on
#: how many processes the run began, and the size of the dataset.
_STREAM = dict.fromkeys(("samples_seen", "global_batch_size", "world_size", "num_samples"), int)
_log = logging.getLogger(__name__)


def batches_done(trainer: pl.Trainer | None) -> int:
    """Return the number of training batches that were finished in this and earlier parts of the run."""
    if trainer is None:
        return 0
    total: Any = trainer.fit_loop.epoch_loop.batch_progress.total  # which counts more than its declared type has
    return int(total.processed)


def place_in_stream(trainer: pl.Trainer | None) -> int:
    """Return how many batches lie before the next one in the stream of training samples.

    With `overfit_batches` each epoch begins at the start of the stream again.
    """
    done = batches_done(trainer)
    if trainer is None or not trainer.overfit_batches:  # type: ignore[attr-defined]  # set by a helper of the trainer
        return done
    return done % max(1, int(trainer.num_training_batches))


def steps_asked(trainer: pl.Trainer) -> int | None:
    """Return the number of steps after which a run ends by itself; None where it has no known end."""
    limits = []
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    batches = trainer.num_training_batches
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and math.isfinite(batches):
        limits.append(trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches))
    return min(limits, default=None)


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


def stream_state(stream: StreamSampler) -> dict[str, int]:
    """Return plain values that say where a run stands in its data."""
    return {
        "samples_seen": stream.samples_before(stream.position()),
        "global_batch_size": stream.global_batch_size,
        "world_size": stream.original_world_size,
        "num_samples": stream.num_samples,
    }


def checked_stream(state: Any) -> dict[str, int]:
    """Return what `stream_state` gave.

    Raises:
        UserError: it is something else.
    """
    saved = checked_state(state, _STREAM, "the state of the data")
    if not (saved["world_size"] and saved["global_batch_size"]):
        raise UserError(
            "Training cannot go on from the checkpoint: no image a step, it says.", "Give one that `aigc fit` wrote."
        )
    return saved


def check_global_batch(saved: Mapping[str, int], batch_size: int, world_size: int) -> None:
    """Check that a run that goes on takes as many images a step as before, over all processes.

    Args:
        saved: by `stream_state`.
        batch_size: of each process.
        world_size: number of processes.

    Raises:
        UserError: it does not; the message says what would.
    """
    before = saved["global_batch_size"]
    if batch_size * world_size == before:
        return
    hint = f"Write --data.batch_size {before // world_size}."
    if before % world_size:
        fitting = [str(number) for number in range(1, min(before, 64) + 1) if before % number == 0]
        hint = f"{world_size} processes cannot share {before} equally: use {', '.join(fitting)} (--trainer.devices)."
    raise UserError(
        f"The run took {before} images a step, and would now take {batch_size * world_size} "
        f"(data.batch_size {batch_size} on {world_size} {'process' if world_size == 1 else 'processes'}).",
        hint,
    )


def check_stream(saved: Mapping[str, int], stream: StreamSampler) -> None:
    """Check that a stream goes on where the saved one stood; a dataset of another size is worth a line.

    Raises:
        UserError: it does not.
    """
    check_global_batch(saved, stream.batch_size, stream.world_size)
    if stream.original_world_size != saved["world_size"]:
        raise UserError(
            f"The order of this data depends on the number of processes, which was {saved['world_size']} when the run "
            f"began and is now {stream.world_size}.",
            f"Write --trainer.devices {saved['world_size']}.",
        )
    if stream.num_samples != saved["num_samples"]:
        _log.warning(
            "There are %s training images, and there were %s when the run was saved: from here on it sees them in "
            "another order.",
            f"{stream.num_samples:,}",
            f"{saved['num_samples']:,}",
        )
