"""Progress display of a run."""

import logging
import sys
import time
from collections import deque
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

from aigc_lightning.callbacks.grids import Grids
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.callbacks.private_training import PrivateTraining
from aigc_lightning.core.batch import batch_size
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.records import checked_state
from aigc_lightning.core.run.loop_state import steps_asked
from aigc_lightning.core.run.shared_processor import SharedProcessor
from aigc_lightning.errors import UserError

_REFRESH = 0.2  # seconds between two updates of the live lines
_WINDOW = 10.0  # seconds over which the current speed is measured
_WORTH_SAYING = 0.05  # share of the time spent waiting for data above which it is shown


class Progress(ProgressBar):
    """Shows step, images, speed, losses, time left and the newest grid.

    If more than 5 % of the last seconds was spent waiting for batches, `data` and the share are also shown. On a GPU,
    which keeps computing in the meantime, this is an upper bound on what faster data could gain.

    In a terminal these are two or three live lines; otherwise a plain line is printed periodically. The losses come
    from `LossLog` and the grid from `Grids`, if these are among the callbacks, and no tensor is read. Only rank 0
    prints.

    Args:
        seconds_between_lines: interval of the plain lines without a terminal.

    Raises:
        UserError: the interval is not positive.
    """

    def __init__(self, seconds_between_lines: float = 10.0) -> None:
        super().__init__()
        if seconds_between_lines <= 0:
            raise UserError(
                f"progress.seconds_between_lines is {seconds_between_lines}.", "Give a positive number of seconds."
            )
        self.seconds_between_lines = seconds_between_lines
        self.is_enabled = True
        #: Images seen by all processes since the run began, including earlier parts of a resumed run.
        self.images = 0
        self._world_size = 1
        self._live: Live | None = None
        self._running = False
        self._status = ""
        self._due = 0.0
        self._start_time, self._start_step = 0.0, -1  # at the end of the first batch, which may have been slow
        self._speed, self._waits = Speed(), Speed()  # images per second, and seconds spent waiting per second
        self._losses: LossLog | None = None
        self._grids: Grids | None = None
        self._private: PrivateTraining | None = None
        self._processor: SharedProcessor | None = None

    def enable(self) -> None:
        """Enable the display."""
        self.is_enabled = True

    def disable(self) -> None:
        """Disable the display."""
        self.is_enabled = False
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        """Return the count of images, which does not follow from the count of steps if batch sizes vary."""
        return {"images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of images."""
        self.images = checked_state(state_dict, {"images": int}, "progress")["images"]

    # ---- training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show where the run starts."""
        if not self.is_enabled:
            return
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a helper of the trainer
        self._losses = next((callback for callback in callbacks if isinstance(callback, LossLog)), None)
        self._grids = next((callback for callback in callbacks if isinstance(callback, Grids)), None)
        self._private = next((callback for callback in callbacks if isinstance(callback, PrivateTraining)), None)
        self._start_step, self._speed, self._waits = -1, Speed(), Speed()
        self._processor = SharedProcessor(trainer.num_devices) if pl_module.device.type == "cpu" else None
        self._world_size = trainer.world_size  # a chain of properties, too long for each step
        self._running = True
        if _is_terminal():
            self._live = Live(console=Console(), auto_refresh=False)
            self._live.start()
            _follow_streams()
        self._show(time.perf_counter())
        self._due = 0.0  # update when the first batch is done

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images; everything else happens a few times per second."""
        if not self.is_enabled:
            return
        self.images += batch_size(batch) * self._world_size
        now = time.perf_counter()
        if now < self._due:
            return
        if self._start_step < 0:
            self._look(now)
            self._start_time, self._start_step = now, trainer.global_step
            self._due = now + self._pause
        else:
            self._show(now)
            if self._processor is not None and (advice := self._processor.look()) is not None:
                echo(advice)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the final progress."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Show the progress at the error, and restore the terminal."""
        self._stop()

    # ---- the other stages

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show that the run is validating."""
        now = time.perf_counter()
        self._speed.pause(now)
        self._waits.pause(now)
        self.say("validating")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say which batch it is."""
        self.say(f"validating, batch {batch_idx + 1}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show training again."""
        now = time.perf_counter()
        self._speed.resume(now)
        self._waits.resume(now)
        self._status = ""

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say which batch it is."""
        self.say(f"testing, batch {batch_idx + 1}")

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say which batch it is."""
        self.say(f"predicting, batch {batch_idx + 1}")

    # ---- the screen

    @property
    def _pause(self) -> float:
        return _REFRESH if self._live else self.seconds_between_lines

    def say(self, status: str) -> None:
        """Show another stage, if an update is due; the sanity check before training is too short to be shown."""
        self._status = status
        now = time.perf_counter()
        if self.is_enabled and now >= self._due and not self.trainer.sanity_checking:
            self._show(now)

    def _look(self, now: float) -> None:
        self._speed.look(now, self.images)
        waited = getattr(self.trainer.train_dataloader, "seconds_waited", None)  # measured by our own loaders
        if waited is not None:
            self._waits.look(now, waited)

    def _show(self, now: float) -> None:
        self._due = now + self._pause
        if self._start_step >= 0:
            self._look(now)
        steps = self._steps(now) if self._running else []
        counts = [*self._counts(), self._status] if self._running else [self._status]
        if self._live is None:
            echo("  ".join(part for part in [*steps, *counts, self._grid()] if part), flush=True)
            return
        bar = Table.grid(expand=True, padding=(0, 1))
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(Bar(total=steps_asked(self.trainer), completed=self.trainer.global_step), "  ".join(steps))
        lines = ["  ".join(part for part in counts if part), self._grid()]
        texts = [Text(shown(line), no_wrap=True, overflow="ellipsis") for line in lines if line]
        self._live.update(Group(bar, *texts), refresh=True)

    def _stop(self) -> None:
        if self._running and self.is_enabled:
            self._status = ""
            self._show(time.perf_counter())
        self._running = False
        if self._live is not None:
            self._live.stop()
            self._live = None
            _follow_streams()

    def _steps(self, now: float) -> list[str]:
        """Return steps, share of the run, and time left."""
        step, total = self.trainer.global_step, steps_asked(self.trainer)
        if total is None:
            return [f"step {step:,}"]
        shown = [f"step {step:,}/{total:,}", f"{step / max(total, 1):.0%}"]
        if 0 <= self._start_step < step < total:
            seconds = (now - self._start_time) / (step - self._start_step)
            shown.append(f"ETA {timedelta(seconds=round((total - step) * seconds))}")
        return shown

    def _counts(self) -> list[str]:
        """Return images, speed, share of the time spent waiting for data, and losses."""
        shown = [f"{self.images:,} images"]
        if (speed := self._speed.per_second()) is not None:
            shown.append(f"{speed:,.0f} images/s" if speed >= 10 else f"{speed:.2f} images/s")
        if (share := self._waits.per_second()) is not None and share > _WORTH_SAYING:
            shown.append(f"data {share:.0%}")
        if self._private is not None:
            shown.append(f"epsilon {self._private.spent:.3g}/{self._private.epsilon:g}")
        if self._losses is not None:
            names = {name: name.rpartition("/")[2].removesuffix("_loss") for name in self._losses.latest}
            shown += [f"{names[name]} {value:.4g}" for name, value in self._losses.latest.items()]
        return shown

    def _grid(self) -> str:
        """Return the path of the newest grid, or nothing; a trial run keeps none."""
        if getattr(self.trainer, "fast_dev_run", False):
            return ""
        return str(self._grids.latest_path) if self._grids is not None and self._grids.latest_path else ""


class Speed:
    """A rate per second over the last seconds, excluding pauses."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque()
        self._paused: float | None = None

    def look(self, now: float, amount: float) -> None:
        """Record a cumulative amount, such as images; nothing is recorded during a pause."""
        if self._paused is not None:
            return
        self._looks.append((now, amount))
        while len(self._looks) > 2 and now - self._looks[1][0] >= _WINDOW:
            self._looks.popleft()

    def pause(self, now: float) -> None:
        """Stop the clock."""
        self._paused = now

    def resume(self, now: float) -> None:
        """Restart the clock."""
        if self._paused is not None:
            gap = now - self._paused
            self._looks = deque((then + gap, amount) for then, amount in self._looks)
            self._paused = None

    def per_second(self) -> float | None:
        """Return the rate, None until it is known."""
        if len(self._looks) < 2:
            return None
        (first, before), (last, after) = self._looks[0], self._looks[-1]
        return (after - before) / max(last - first, 1e-9)


def _is_terminal() -> bool:
    # Not rich's own check, which takes a pipe for a terminal if FORCE_COLOR is set.
    return sys.stdout.isatty() and not Console().is_dumb_terminal


def _follow_streams() -> None:
    """Send Lightning's messages to the current `sys.stderr`, which live lines replace so that they are not garbled."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(sys.stderr)
