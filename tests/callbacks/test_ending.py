"""A run that stops early says at which step of how many, by what and why, and how it goes on."""

from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, Timer

from aigc_lightning.callbacks.checkpoints import Checkpoints
from aigc_lightning.callbacks.ending import Ending, _as_option
from aigc_lightning.core.run import silent_trainer
from aigc_lightning.training.precision import RunTrainer


@pytest.fixture
def run(fit, monkeypatch, capsys):
    """Train with the trainer of `aigc fit`; return what it printed."""

    def run(*callbacks, ending=None, **options):
        def make(**given):
            return RunTrainer(precision="32-true", **given)

        monkeypatch.setattr(silent_trainer, "Trainer", make)
        capsys.readouterr()
        fit(*callbacks, ending or Ending(), **options)
        return [line for line in capsys.readouterr().out.splitlines() if line]

    return run


class StopAt(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step >= self.step


@pytest.mark.parametrize("options", [{"max_steps": 20}, {"max_steps": -1, "max_epochs": 2}])
def test_a_run_that_comes_to_its_end_says_nothing(options, run):
    assert run(**options) == []


def test_a_callback_that_stops_the_run_is_named(run, tmp_path):
    assert run(StopAt(7)) == [
        "Stopped by StopAt at step 7 of 20: it asked the trainer to stop.",
        f"Go on with: aigc fit --resume {tmp_path}",
    ]
    assert run(StopAt(13), max_steps=-1, max_epochs=3)[0].startswith("Stopped by StopAt at step 13 of 30:")


def test_a_model_that_stops_the_run_is_named(run, make_model):
    model = make_model()
    kind: Any = type(model)
    step = kind.training_step

    class Stopping(kind):
        def training_step(self, batch, batch_idx):
            self.trainer.should_stop = True
            return step(self, batch, batch_idx)

    assert run(model=Stopping(model.spec))[0].startswith("Stopped by Stopping at step 1 of 20:")


def test_early_stopping_says_why(run, make_model):
    model = make_model()
    model.on_validation_epoch_end = lambda: model.log("val/score", 1.0)
    options = {"limit_val_batches": 1, "val_check_interval": 2, "num_sanity_val_steps": 0, "model": model}
    first, second = run(EarlyStopping("val/score", patience=2), **options)
    assert first.startswith("Stopped by EarlyStopping at step 6 of 20: Monitored metric val/score did not improve")
    assert "Signaling" not in first and "leave it out of trainer.callbacks" in second


@pytest.mark.parametrize("by_trainer", [True, False])
def test_a_limit_of_time_says_how_to_go_on(by_trainer, run, tmp_path, monkeypatch):
    timer = Timer(timedelta(seconds=90))
    monkeypatch.setattr(timer, "time_elapsed", lambda stage="train": 91.0)
    first, second = run(timer, ending=Ending(max_time="00:00:01:30" if by_trainer else None))
    assert first.startswith(f"Stopped by {'trainer.max_time' if by_trainer else 'Timer'} at step 0 of 20: 0:01:30 of")
    longer = f"Go on with: aigc fit --resume {tmp_path} --trainer.max_time 00:00:03:00"
    assert second == (longer if by_trainer else "To go on, give Timer a longer duration.")


def test_a_run_without_batches_says_so(run):
    (line,) = run(limit_train_batches=0)
    assert line == "Stopped by trainer.limit_train_batches at step 0 of 20: there are no batches to train on."


@pytest.mark.parametrize("saved", [True, False])
def test_an_error_says_what_is_saved(saved, run, make_model, tmp_path, capsys):
    model = make_model()
    model.fail_at = 9
    checkpoints = Checkpoints(every_n_steps=3 if saved else None, monitor=None)
    with pytest.raises(RuntimeError, match="planned"):
        run(checkpoints, model=model)
    lines = capsys.readouterr().out.splitlines()
    kept = "step 6 is saved." if saved else "nothing was saved."
    assert lines[0] == f"Stopped by an error at step 8 of 20: {kept}"
    assert (f"Go on with: aigc fit --resume {tmp_path}" in lines) == saved


def test_a_trainer_that_goes_on_after_all_forgets_who_stopped_it(run):
    trainer = RunTrainer(precision="32-true", logger=False, enable_checkpointing=False)
    trainer.should_stop = True
    assert trainer.should_stop and trainer.stopper is None  # set by nobody of the run
    trainer.should_stop = False
    assert not trainer.should_stop


def test_times_as_options():
    assert _as_option(timedelta(days=1, hours=2, minutes=3, seconds=4)) == "01:02:03:04"
