"""A run that is told to stop, to test that it resumes."""

import os
import signal

import lightning.pytorch as pl

from aigc_lightning.core.run.loop_state import batches_done
from aigc_lightning.errors import UserError


class StopBySignal(pl.Callback):
    """Sends SIGTERM to its own process during a batch.

    Args:
        step: number of the batch, counted from 1.

    Raises:
        UserError: the number is below 1.
    """

    def __init__(self, step: int = 1) -> None:
        if step < 1:
            raise UserError(f"step is {step}.", "Give at least 1.")
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Send the signal if this is the batch."""
        if batches_done(trainer) == self.step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
