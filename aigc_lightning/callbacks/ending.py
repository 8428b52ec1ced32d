"""Why a run ended early, and how to resume it."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, Timer

from aigc_lightning.core.checkpoint import step_of
from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE, HIDDEN
from aigc_lightning.core.run.folder import CHECKPOINTS, LAST
from aigc_lightning.core.run.log import say
from aigc_lightning.core.run.loop_state import steps_asked
from aigc_lightning.shell import command


class Ending(pl.Callback):
    """Reports at which step a run stopped early, what stopped it and why, and how to resume it.

    Args:
        max_time: the trainer's time limit, None for none.
        options: options to repeat when the run is resumed, since its config cannot contain them.
    """

    def __init__(self, max_time: Any = None, options: Sequence[str] = ()) -> None:
        self.max_time, self._options = max_time, options
        self._began = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that training has begun, so that an error from here on stops a run."""
        self._began = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report an early stop."""
        if _came_to_its_end(trainer):
            return
        stopper = getattr(trainer, "stopper", None)
        if isinstance(stopper, EarlyStopping):
            reason = (stopper.stopping_reason_message or "").replace("Signaling Trainer to stop.", "").strip()
            say(stopped(trainer, type(stopper).__name__, reason or f"{stopper.monitor} was not good enough."))
            say("It would stop again soon after a resume. To go on, leave it out of trainer.callbacks.")
        elif isinstance(stopper, Timer):
            limit = timedelta(seconds=round(stopper.time_elapsed() + (stopper.time_remaining() or 0)))
            by = "trainer.max_time" if self.max_time else type(stopper).__name__
            say(stopped(trainer, by, f"{limit} of training are over, earlier parts of the run included."))
            if self.max_time:
                self._say_how(trainer, "--trainer.max_time", _as_option(2 * limit))
            else:
                say(f"To go on, give {by} a longer duration.")
        elif stopper is not None:
            say(stopped(trainer, type(stopper).__name__, "it asked the trainer to stop."))
            self._say_how(trainer)
        elif trainer.num_training_batches == 0 or trainer.limit_train_batches == 0:
            say(stopped(trainer, "trainer.limit_train_batches", "there are no batches to train on."))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Report what is saved, before the error itself is shown."""
        if self._began and isinstance(exception, Exception):
            path = Path(trainer.default_root_dir) / CHECKPOINTS / LAST
            saved = step_of(path)
            say(stopped(trainer, "an error", f"step {saved:,} is saved." if saved >= 0 else "nothing was saved."))
            if saved >= 0:
                self._say_how(trainer)

    def _say_how(self, trainer: pl.Trainer, *changes: str) -> None:
        for line in going_on(trainer, self._options, *changes):
            say(line)


def stopped(trainer: pl.Trainer, by: str, why: str) -> str:
    """Return the line that says where a run stopped.

    Args:
        trainer: the trainer that stopped.
        by: what stopped it.
        why: the reason, as the end of a sentence.
    """
    total = steps_asked(trainer)
    where = f"step {trainer.global_step:,}" if total is None else f"step {trainer.global_step:,} of {total:,}"
    return f"Stopped by {by} at {where}: {why}"


def going_on(trainer: pl.Trainer, options: Sequence[str] = (), *changes: str) -> list[str]:
    """Return lines that say how to resume a run.

    Args:
        trainer: the trainer of the run.
        options: options to repeat, since the config of the run cannot contain them, such as --trust-config.
        changes: further options, such as a later end.
    """
    line = command("aigc", "fit", "--resume", Path(trainer.default_root_dir), *options, *changes)
    hidden = [f"Give its addresses with their secrets, here or in {ADDRESSES_VARIABLE}."] if HIDDEN in line else []
    return [f"Go on with: {line}", *hidden]


def asking_to_stop() -> Any:
    """Return the callback, model or data whose method is setting `trainer.should_stop` just now; None for nobody."""
    frame = sys._getframe(2)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, pl.Callback | pl.LightningModule | pl.LightningDataModule):
            return caller
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return None


def _came_to_its_end(trainer: pl.Trainer) -> bool:
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else None
    total = steps_asked(trainer)
    if epochs is not None and trainer.current_epoch >= epochs and trainer.num_training_batches:
        return True
    return total is not None and 0 < total <= trainer.global_step


def _as_option(time: timedelta) -> str:
    """Return a time as `--trainer.max_time` takes it, such as 00:01:30:00."""
    hours, seconds = divmod(time.seconds, 3600)
    return f"{time.days:02d}:{hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}"
