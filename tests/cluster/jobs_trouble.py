"""Callbacks for jobs that meet with trouble."""

import json
import os
import signal
import subprocess
import sys
import time

import lightning.pytorch as pl


class WarnJob(pl.Callback):
    """At the thirtieth batch of a Slurm job's first start sends the warning signal, then goes on slowly."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if "SLURM_RESTART_COUNT" in os.environ or trainer.global_step < 30:
            return
        if trainer.global_step == 30 and trainer.is_global_zero:
            subprocess.run(["scancel", "--signal=USR1", "--batch", os.environ["SLURM_JOB_ID"]], check=True)
        time.sleep(0.1)


class KillOnce(pl.Callback):
    """Kills the second process at the thirtieth batch, unless torchrun has started it again."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and trainer.global_rank == 1 and trainer.global_step == 30:
            os.kill(os.getpid(), signal.SIGKILL)


class Slow(pl.Callback):
    """Waits in each batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(0.1)


class Witness(pl.Callback):
    """Writes what a process has opened for writing or renamed in the run's folder, and its metrics at the end."""

    def __init__(self, folder: str):
        self.folder, self.listens = folder, True
        self.written: set[str] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if not self.listens:
            return
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            if (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.written.add(os.path.abspath(arguments[0]))
        elif event == "os.rename":
            self.written.add(os.path.abspath(arguments[1]))

    def on_fit_end(self, trainer, pl_module):
        self.listens = False
        run = os.path.abspath(trainer.default_root_dir)
        files = sorted(os.path.relpath(path, run) for path in self.written if path.startswith(run + os.sep))
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        path = os.path.join(self.folder, f"rank{trainer.global_rank}.json")
        with open(path, "w") as file:
            json.dump({"files": files, "metrics": metrics}, file)
