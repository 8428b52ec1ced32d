"""Processes that are started from this one: they hear its signals, and it ends as they do."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch.multiprocessing as mp
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from aigc_lightning.errors import UserError


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that end a run with a checkpoint; SIGHUP is none where `nohup` has this process ignore it."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    known: list[signal.Signals] = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN]


class Processes(_MultiProcessingLauncher):
    """Starts the processes of a run by spawning or forking.

    Signals are handed on to them, so that they stop as under the other launchers. A `UserError` of theirs is raised
    here, and the exit code of the first that ends otherwise than well is this process's own.
    """

    _mistakes: Any = None  # of the processes: what and hint

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Run the function in each process and wait for the end of all.

        Raises:
            UserError: one of them raised it, or was killed.
            SystemExit: one of them ended with this exit code.
        """
        self._mistakes = mp.get_context(self._start_method).SimpleQueue()
        try:
            with self._handing_on():
                return super().launch(function, *args, trainer=trainer, **kwargs)
        except ProcessRaisedException:
            if self._mistakes.empty():
                raise
            raise UserError(*self._mistakes.get()) from None
        except ProcessExitedException as error:
            if error.exit_code > 0:
                raise SystemExit(error.exit_code) from None
            raise UserError(
                f"Process {error.error_index} of the run was killed ({error.signal_name}).",
                "The machine's memory may be full. Go on from the last checkpoint with --resume.",
            ) from None

    def _wrapping_function(self, process_idx: int, *args: Any, **kwargs: Any) -> None:
        try:
            super()._wrapping_function(process_idx, *args, **kwargs)
        except UserError as error:
            self._mistakes.put((error.what, error.hint))
            raise

    @contextmanager
    def _handing_on(self) -> Iterator[None]:
        """Hand signals on to the processes; only a main thread gets any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._hand_on) for number in stopping_signals()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if not self.procs:  # they are being started
            raise SystemExit(128 + number)
        for process in self.procs:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)
