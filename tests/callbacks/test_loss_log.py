from pathlib import Path

import pytest
from PIL import Image

from aigc_lightning.callbacks.loggers import make_loggers
from aigc_lightning.callbacks.loss_log import LossLog, plot_metrics
from aigc_lightning.callbacks.metrics_file import read_metrics


def losses(folder: Path) -> tuple[list[int], list[float]]:
    return read_metrics(folder / "metrics.csv")["train/generator_loss"]


def test_means_are_written_at_the_cadence_and_the_rest_at_the_end(fit, tmp_path: Path):
    log = LossLog()
    fit(log, max_steps=12, logger=make_loggers([], tmp_path))
    assert losses(tmp_path) == ([5, 10, 12], [3, 8, 11.5])  # means of 1..5, 6..10 and 11, 12
    assert log.latest == {"train/generator_loss": 11.5}


def test_a_resumed_run_writes_the_file_of_an_uninterrupted_one(fit, tmp_path: Path):
    checkpoint = tmp_path / "ten.ckpt"
    fit(LossLog(), max_steps=10, logger=make_loggers([], tmp_path)).save_checkpoint(checkpoint)
    fit(LossLog(), max_steps=17, logger=make_loggers([], tmp_path), resume=checkpoint)  # lost after the checkpoint
    fit(LossLog(), max_steps=20, logger=make_loggers([], tmp_path), resume=checkpoint)
    assert losses(tmp_path) == ([5, 10, 15, 20], [3, 8, 13, 18])
    assert (tmp_path / "losses.png").exists()


def test_a_run_that_fails_leaves_a_plot(fit, make_model, tmp_path: Path):
    model = make_model()
    model.fail_at = 8
    with pytest.raises(RuntimeError, match="planned"):
        fit(LossLog(), model=model, logger=make_loggers([], tmp_path))
    assert Image.open(tmp_path / "losses.png").format == "PNG"


def test_scores_have_a_panel_of_their_own(tmp_path: Path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,train/a,epoch\n1,0.5,0\n2,0.4,0\n")
    plot_metrics(metrics, tmp_path / "one.png")
    metrics.write_text("step,train/a,val/b\n1,0.5,\n2,0.4,3\n")
    plot_metrics(metrics, tmp_path / "two.png")
    assert Image.open(tmp_path / "two.png").height == 2 * Image.open(tmp_path / "one.png").height


def test_without_numbers_nothing_is_drawn(tmp_path: Path):
    plot_metrics(tmp_path / "metrics.csv", tmp_path / "losses.png")
    assert not list(tmp_path.iterdir())
