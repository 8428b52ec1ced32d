import re
import time
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from aigc_lightning.callbacks import progress
from aigc_lightning.callbacks.grids import Grids
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.callbacks.progress import Progress, Speed
from aigc_lightning.data.base import ArraySource, ImageSamples
from aigc_lightning.data.loader import StreamLoader
from aigc_lightning.errors import UserError


def test_plain_lines_at_start_and_end_say_it_all(fit, capsys):
    fit(LossLog(), Grids(num=4), Progress())
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 0/20  0%  0 images  ") and first.endswith("step_000000.png")
    # Two epochs of nine batches of four and one of one.
    assert re.fullmatch(r"step 20/20  100%  74 images  [\d,]+ images/s  generator 18  .*step_000020\.png", last)


def test_lines_between_come_when_their_time_has_come(fit, capsys):
    fit(Progress(seconds_between_lines=1e-9), max_steps=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0/4", "2/4", "3/4", "4/4", "4/4"]
    assert "ETA 0:00:0" in lines[1]


def test_epochs_give_the_end_where_steps_do_not(fit, capsys):
    fit(Progress(), max_steps=-1, max_epochs=2, limit_val_batches=1.0)
    assert capsys.readouterr().out.splitlines()[-1].startswith("step 20/20  100%")


def test_an_unknown_end_is_not_invented(fit, capsys):
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([{"image": torch.zeros(2, 1, 8, 8)}] * 3)

    fit(Progress(), max_steps=-1, max_epochs=1, loader=DataLoader(Stream(), batch_size=None))
    assert capsys.readouterr().out.splitlines()[-1].startswith("step 3  6 images")


def test_a_resumed_run_goes_on_counting(fit, tmp_path, capsys):
    fit(Progress(), max_steps=10).save_checkpoint(tmp_path / "ten.ckpt")
    capsys.readouterr()
    fit(Progress(), max_steps=15, resume=tmp_path / "ten.ckpt")
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 10/15  67%  37 images") and last.startswith("step 15/15  100%  57 images")


def test_other_processes_are_silent(fit, capsys, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.Trainer.is_global_zero", False)
    fit(Progress(), max_steps=3)
    assert capsys.readouterr().out == ""


def test_validation_shows_when_lines_are_due(fit, capsys):
    fit(Progress(seconds_between_lines=1e-9), max_steps=10, limit_val_batches=1.0)
    assert "  validating, batch 3" in capsys.readouterr().out


def test_a_failed_run_says_how_far_it_came(fit, make_model, capsys):
    model = make_model()
    model.fail_at = 8
    with pytest.raises(RuntimeError):
        fit(Progress(), model=model)
    assert capsys.readouterr().out.splitlines()[-1].startswith("step 7/20")


def test_in_a_terminal_the_lines_are_live_and_end_whole(fit, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    fit(LossLog(), Progress())
    out = capsys.readouterr().out
    assert "step 20/20  100%" in out and "generator 18" in out
    assert out.endswith("\x1b[?25h")  # the cursor is back


def test_speed_leaves_pauses_out_and_forgets_what_is_long_ago():
    speed = Speed()
    assert speed.per_second() is None
    speed.look(0.0, 0)
    speed.look(5.0, 500)
    speed.pause(6.0)
    speed.look(50.0, 999)  # not noted
    speed.resume(106.0)
    speed.look(107.0, 700)
    assert speed.per_second() == pytest.approx(100)
    speed.look(125.0, 1060)
    assert speed.per_second() == pytest.approx(20)


@pytest.mark.parametrize(("fetch", "step", "shown"), [(0.12, 0.88, "12%"), (0.04, 0.96, None)])
def test_waiting_for_data_shows_when_it_takes_long(fit, make_model, capsys, monkeypatch, fetch, step, shown):
    clock = 0.0

    def spend(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    class Samples(ImageSamples):
        def __getitems__(self, keys: Any) -> Any:
            spend(fetch)
            return super().__getitems__(keys)

    class Model(type(make_model())):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            spend(step)
            return super().training_step(batch, batch_idx)

    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    samples = Samples(ArraySource(torch.zeros(16, 1, 8, 8, dtype=torch.uint8)))
    loader = StreamLoader(samples, batch_size=2, collate_fn=lambda batch: batch)
    fit(Progress(), model=Model(make_model().spec), max_steps=20, loader=loader)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("2.00 images/s" + (f"  data {shown}" if shown else ""))


def test_a_time_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="seconds_between_lines is 0"):
        Progress(seconds_between_lines=0)
