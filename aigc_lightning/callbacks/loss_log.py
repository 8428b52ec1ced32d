"""Losses: to the loggers at a cadence, and as a plot at the end."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from aigc_lightning.callbacks.loggers import SafeLogger, log_metrics, warn_instead
from aigc_lightning.callbacks.metrics_file import METRICS_FILE, read_metrics
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.atomic import replacing

#: Name of the plot in the run's folder.
LOSSES_FILE = "losses.png"


class LossLog(pl.Callback):
    """Writes the means of what the model recorded, every `log_every_n_steps` steps of the trainer and at the end.

    When training ends, well or not, `losses.png` is drawn from `metrics.csv`, so that it shows the whole of a resumed
    run.
    """

    def __init__(self) -> None:
        #: The values that were written last, by name.
        self.latest: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what an earlier part of the run logged beyond the step that this part starts from."""
        for logger in trainer.loggers:
            if isinstance(logger, SafeLogger):
                logger.rewind(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time."""
        cadence: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a helper of the trainer
        if cadence and trainer.global_step % cadence == 0:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left, and draw the plot.

        The values are kept: where the run goes on, its next row is the mean that it would have been without the stop.
        """
        self._write(trainer, pl_module, keep=True)
        self._plot(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Draw the plot of an interrupted run, except where its process was told to end and time is short."""
        if not isinstance(exception, SystemExit):
            self._plot(trainer)

    def _write(self, trainer: pl.Trainer, model: pl.LightningModule, *, keep: bool = False) -> None:
        if not isinstance(model, ImageModel):
            return
        if values := model.recorded_means() if keep else model.pop_recorded():
            self.latest = values
            log_metrics(trainer, values)

    def _plot(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            with warn_instead("The losses were not drawn"):
                plot_metrics(folder / METRICS_FILE, folder / LOSSES_FILE)


def plot_metrics(metrics: Path, path: Path) -> None:
    """Draw the training losses and, in a panel below, the validation scores; without any, draw nothing.

    Args:
        metrics: a `metrics.csv`.
        path: the PNG file.
    """
    series = read_metrics(metrics)
    panels = {"train": "loss", "val": "score"}
    drawn = {stage: [name for name in series if name.startswith(f"{stage}/")] for stage in panels}
    drawn = {stage: names for stage, names in drawn.items() if names}
    if not drawn:
        return

    # Takes a second, and is needed once a run. Not pyplot, which keeps figures and picks a window system.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 4 * len(drawn)), layout="constrained")
    for axes, (stage, names) in zip(figure.subplots(len(drawn), squeeze=False)[:, 0], drawn.items(), strict=True):
        for name in names:
            steps, values = series[name]
            marker = "o" if len(steps) <= 30 else None
            axes.plot(steps, values, label=name.removeprefix(f"{stage}/"), linewidth=1, marker=marker, markersize=3)
        axes.set_xlabel("step")
        axes.set_ylabel(panels[stage])
        axes.set_title({"train": "training", "val": "held-out data"}[stage], loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
