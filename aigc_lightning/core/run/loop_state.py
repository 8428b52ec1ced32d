"""The progress of a run, and whether another run can resume from it."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from aigc_lightning.core.records import checked_state
from aigc_lightning.core.sampler import StreamSampler
from aigc_lightning.errors import UserError

#: What a checkpoint stores about the stream of samples: how many all processes have seen, how many they take per step,
#: how many processes the run began with, and the size of the dataset.
_STREAM = dict.fromkeys(("samples_seen", "global_batch_size", "world_size", "num_samples"), int)
_log = logging.getLogger(__name__)


def batches_done(trainer: pl.Trainer | None) -> int:
    """Return the number of training batches finished in this and earlier parts of the run."""
    if trainer is None:
        return 0
    total: Any = trainer.fit_loop.epoch_loop.batch_progress.total  # which counts more than its declared type has
    return int(total.processed)


def place_in_stream(trainer: pl.Trainer | None) -> int:
    """Return the number of batches before the next one in the stream of training samples.

    With `overfit_batches` each epoch restarts the stream.
    """
    done = batches_done(trainer)
    if trainer is None or not trainer.overfit_batches:  # type: ignore[attr-defined]  # set by a helper of the trainer
        return done
    return done % max(1, int(trainer.num_training_batches))


def steps_asked(trainer: pl.Trainer) -> int | None:
    """Return the number of steps after which a run ends by itself; None if unknown."""
    limits = []
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    batches = trainer.num_training_batches
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and math.isfinite(batches):
        limits.append(trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches))
    return min(limits, default=None)


def as_interrupted(loops: dict[str, Any]) -> None:
    """Change the state of a finished run into that of one to be continued, in place.

    Lightning closes the epoch in which a run ends. A run that resumes from there would count one epoch too many, or end
    its next epoch after a single batch.

    Args:
        loops: the checkpoint's entry of that name.
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
    """Return plain values that describe a run's position in its data."""
    return {
        "samples_seen": stream.samples_before(stream.position()),
        "global_batch_size": stream.global_batch_size,
        "world_size": stream.original_world_size,
        "num_samples": stream.num_samples,
    }


def checked_stream(state: Any) -> dict[str, int]:
    """Return a validated result of `stream_state`.

    Raises:
        UserError: it has a different structure.
    """
    saved = checked_state(state, _STREAM, "the state of the data")
    if not (saved["world_size"] and saved["global_batch_size"]):
        raise UserError(
            "Training cannot resume from the checkpoint: it has 0 images per step.", "Give one that `aigc fit` wrote."
        )
    return saved


def check_global_batch(saved: Mapping[str, int], batch_size: int, world_size: int) -> None:
    """Check that a resumed run takes as many images per step as before, over all processes.

    Args:
        saved: as returned by `stream_state`.
        batch_size: of each process.
        world_size: number of processes.

    Raises:
        UserError: it does not; the message says which settings would.
    """
    before = saved["global_batch_size"]
    if batch_size * world_size == before:
        return
    hint = f"Use --data.batch_size {before // world_size}."
    if before % world_size:
        fitting = [str(number) for number in range(1, min(before, 64) + 1) if before % number == 0]
        hint = f"{world_size} processes cannot share {before} equally: use {', '.join(fitting)} (--trainer.devices)."
    raise UserError(
        f"The run took {before} images per step and would now take {batch_size * world_size} "
        f"(data.batch_size {batch_size} on {world_size} {'process' if world_size == 1 else 'processes'}).",
        hint,
    )


def check_stream(saved: Mapping[str, int], stream: StreamSampler) -> None:
    """Check that a stream continues where the saved one stopped; warn if the dataset's size has changed.

    Raises:
        UserError: it does not.
    """
    check_global_batch(saved, stream.batch_size, stream.world_size)
    if stream.original_world_size != saved["world_size"]:
        raise UserError(
            f"The order of this data depends on the number of processes, which was {saved['world_size']} when the run "
            f"began and is now {stream.world_size}.",
            f"Use --trainer.devices {saved['world_size']}.",
        )
    if stream.num_samples != saved["num_samples"]:
        _log.warning(
            "There are %s training images, but there were %s when the run was saved: from here on they come in "
            "another order.",
            f"{stream.num_samples:,}",
            f"{saved['num_samples']:,}",
        )
