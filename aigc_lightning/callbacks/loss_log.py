"""Losses: logged periodically, and plotted at the end."""

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

    When training ends, even with an error, `losses.png` is drawn from `metrics.csv`, so that it covers all parts of a
    resumed run.
    """

    def __init__(self) -> None:
        #: The most recently written values, by name.
        self.latest: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what an earlier part of the run logged after the step from which this part resumes."""
        for logger in trainer.loggers:
            if isinstance(logger, SafeLogger):
                logger.rewind(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the means if they are due."""
        cadence: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a helper of the trainer
        if cadence and trainer.global_step % cadence == 0:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the remaining values, and draw the plot.

        The values are kept, so that the next row of a resumed run is what it would have been without the stop.
        """
        self._write(trainer, pl_module, keep=True)
        self._plot(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Draw the plot of an interrupted run, unless its process was told to terminate and time is short."""
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
    """Draw the training losses and, in a panel below, the validation scores; draw nothing if there are no values.

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

    # Takes a second and is needed once per run. Not pyplot, which keeps figures alive and selects a GUI backend.
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
