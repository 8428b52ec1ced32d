"""Signals stop a run between two batches, with a checkpoint."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist

from aigc_lightning.callbacks.after_step import AfterStep
from aigc_lightning.callbacks.checkpoints import Checkpoints
from aigc_lightning.callbacks.ending import going_on, stopped
from aigc_lightning.compat import skip_signal_broadcast
from aigc_lightning.core.run.collectives import Poll
from aigc_lightning.core.run.log import say
from aigc_lightning.core.run.processes import end_silent_processes
from aigc_lightning.core.run.signals import stopping_signals

_ECHO = 0.3  # seconds within which a repeated signal is the same one, forwarded by a launcher
_ASK_EVERY = 10  # batches between two checks whether another process was signalled
_SLOW_MS = 1000  # after every batch that takes longer there is a check: a job that is warned has two minutes


class Interruption(AfterStep):
    """Stops the run at the end of a batch when any process gets SIGINT, SIGTERM, SIGUSR1 or SIGHUP.

    All processes stop at the same step and one checkpoint is saved. The exit code is 130 after Ctrl-C and 143 after the
    others. A second signal ends the process at once.

    Args:
        options: options to repeat when the run is resumed, since its config cannot contain them.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self._options = options
        self._received, self._received_at = 0, 0.0
        self._previous: dict[int, Any] = {}
        self._poll, self._pace_poll = Poll(), Poll()
        self._every, self._asked, self._asked_at = 1, 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handlers; Lightning's own, which act inside a step, are set aside."""
        self._every, self._asked, self._asked_at = 1, trainer.global_step, time.monotonic()
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._previous = {number: signal.signal(number, self._on_signal) for number in stopping_signals()}
        # Lightning would ask rank 0 at every batch, and synchronise with the device to get the answer.
        skip_signal_broadcast(trainer)
        super().on_train_start(trainer, pl_module)

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if any process was signalled."""
        number = self._agreed(trainer)
        if number == 0:
            return
        saved = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoints)]
        for callback in saved:
            callback.save_last(trainer)
        code = 130 if number == signal.SIGINT else 143
        saved_where = f"saved in {trainer.default_root_dir}." if saved else "there was nothing to save."
        say(stopped(trainer, signal.Signals(number).name, saved_where))
        if saved:
            for line in going_on(trainer, self._options):
                say(line)
        if trainer.world_size > 1:
            dist.destroy_process_group()  # together: communicating with a process that has ended would crash
        raise SystemExit(code)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the former handlers back."""
        super().teardown(trainer, pl_module, stage)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Put the former handlers back."""
        self.teardown(trainer, pl_module, "fit")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if signal.Signals(number).name == "SIGHUP":
            _leave_dead_terminal()
        if not self._received:
            self._received, self._received_at = number, now
            end_silent_processes()  # otherwise a hanging loader process would block this one within the batch
        elif now - self._received_at > _ECHO:
            raise SystemExit(128 + number)

    def _agreed(self, trainer: pl.Trainer) -> int:
        """Return the signal that any process has received, the same in all processes; 0 for none."""
        if trainer.world_size == 1:
            return self._received
        if trainer.global_step % self._every:
            return 0
        now, device = time.monotonic(), trainer.strategy.root_device
        pace = (now - self._asked_at) / max(1, trainer.global_step - self._asked)
        self._asked, self._asked_at = trainer.global_step, now
        slowest = self._pace_poll.largest(max(1, round(pace * 1000)), device)
        if slowest:  # otherwise there is no answer yet; the slowest process decides for all, so that all check together
            self._every = 1 if slowest > _SLOW_MS else _ASK_EVERY
        return self._poll.largest(self._received, device)


def _leave_dead_terminal() -> None:
    """Discard output to a closed terminal: an error there would end the run before it saves."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
