"""Lightning's launcher of spawned processes, extended by signal handling and exit codes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from aigc_lightning.compat import ProcessLauncher
from aigc_lightning.core.run.log import continued_log, logged_folder
from aigc_lightning.core.run.processes import end_with_parent
from aigc_lightning.core.run.quiet import is_quiet, quiet_console
from aigc_lightning.core.run.roll_call import RollCall, answer_calls
from aigc_lightning.core.run.signals import SIGNALS, stopping_signals
from aigc_lightning.errors import UserError


class SpawnLauncher(ProcessLauncher):
    """Starts the processes of a run by the methods "spawn" or "forkserver".

    Signals are forwarded to them, so that they stop as under the other launchers; if none of them answers, all are
    killed. A `UserError` in one of them is raised here, and the exit code of the first that fails becomes this
    process's own.
    """

    _mistakes: Any = None  # queue of the processes' user errors: what and hint
    _environment: dict[str, str]  # a fork server has the environment of its own start
    _roll_call: RollCall | None = None
    _killed_after = 0  # signal that no process answered
    _quiet = False  # whether the console is quiet
    _logged: Path | None = None  # folder of the run that is being logged

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Run the function in each process and wait until all have ended.

        Raises:
            UserError: raised by one of them, or one was killed.
            SystemExit: one of them ended with this exit code, or none of them answered a signal.
        """
        self._mistakes = mp.get_context(self.start_method).SimpleQueue()
        os.environ["MASTER_PORT"] = str(self.strategy.cluster_environment.main_port)
        try:
            with self._handing_on():
                self._environment = dict(os.environ)
                self._quiet, self._logged = is_quiet(), logged_folder()
                return super().launch(function, *args, trainer=trainer, **kwargs)
        except ProcessRaisedException:
            if self._mistakes.empty():
                raise
            raise UserError(*self._mistakes.get()) from None
        except ProcessExitedException as error:
            if self._killed_after:
                raise SystemExit(128 + self._killed_after) from None
            if error.exit_code > 0:
                raise SystemExit(error.exit_code) from None
            raise UserError(
                f"Process {error.error_index} of the run was killed ({error.signal_name}).",
                "The machine may be out of memory. Continue from the last checkpoint with --resume.",
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the roll call to this process."""
        return {**super().__getstate__(), "_roll_call": None}

    def run(self, process_index: int, function: Callable[[], None]) -> None:
        """Make a process hear signals and write the run's log, and report a mistake to the one that waits."""
        os.environ.update(self._environment)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a server of processes blocks them
        end_with_parent()
        answer_calls()
        rank = self.strategy.node_rank * getattr(self.strategy, "num_processes", 1) + process_index
        with ExitStack() as resources:
            if self._quiet:
                resources.enter_context(quiet_console())
            if self._logged is not None:
                resources.enter_context(continued_log(self._logged, rank))
            try:
                function()
            except UserError as error:
                self._mistakes.put((error.what, error.hint))
                raise

    def weights_path(self, trainer: pl.Trainer) -> Path:
        """Leave the weights in the run's folder; Lightning would leave them in the temporary one."""
        path = Path(trainer.default_root_dir) / f".weights.{os.getpid()}.tmp"  # a piece of a file, until it is read
        trainer.strategy.checkpoint_io.save_checkpoint(trainer.lightning_module.state_dict(), path)
        return path

    def take_weights(self, path: Path, trainer: pl.Trainer) -> None:
        """Load the weights that the first process left."""
        trainer.lightning_module.configure_model()  # averages, which are made when training begins
        trainer.lightning_module.load_state_dict(torch.load(path, weights_only=True))
        path.unlink()

    @contextmanager
    def _handing_on(self) -> Iterator[None]:
        """Forward signals to the processes; only a main thread receives any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._roll_call = RollCall(self._running, self._note_kill)
        former = {number: signal.signal(number, self._hand_on) for number in stopping_signals()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
            self._roll_call.close()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if not self.procs:  # they are being started
            raise SystemExit(128 + number)
        for process in self._running():
            with suppress(ProcessLookupError):
                os.kill(process, number)
        assert self._roll_call is not None
        self._roll_call.begin(number)

    def _running(self) -> list[int]:
        # Not with `is_alive`, which would take the exit code away from the waiting thread.
        return [process.pid for process in self.procs if process.pid is not None and not wait([process.sentinel], 0)]

    def _note_kill(self, number: int) -> None:
        self._killed_after = number
