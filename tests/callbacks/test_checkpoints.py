import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_lightning.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
from aigc_lightning.errors import UserError


@pytest.fixture
def saved(fit, tmp_path):
    """Train and return the step in each checkpoint."""

    def run(callback: Checkpoints, **options):
        fit(callback, **options)
        return steps(tmp_path / "checkpoints")

    return run


def steps(folder: Path):
    return {path.name: torch.load(path, weights_only=True)["global_step"] for path in folder.glob("*")}


QUIET: dict[str, Any] = {"every_n_steps": None, "every_n_minutes": None, "monitor": None}


def test_the_end_is_always_saved(saved):
    assert saved(Checkpoints(**QUIET), max_steps=7) == {"last.ckpt": 7}


def test_the_last_one_is_saved_at_a_cadence(saved, make_model, tmp_path):
    model = make_model()
    model.fail_at = 9
    with pytest.raises(RuntimeError, match="planned"):
        saved(Checkpoints(**{**QUIET, "every_n_steps": 3}), model=model)
    assert steps(tmp_path / "checkpoints") == {"last.ckpt": 6}


def test_others_are_kept_at_a_cadence(saved):
    found = saved(Checkpoints(**QUIET, keep_every_n_steps=4), max_steps=10)
    assert found == {"step_0000004.ckpt": 4, "step_0000008.ckpt": 8, "last.ckpt": 10}


def test_a_cadence_in_minutes(fit, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    seen = []

    class Watched(Checkpoints):
        def _save(self, trainer, name):
            seen.append((trainer.global_step, name))
            super()._save(trainer, name)

        def on_train_batch_end(self, *args):
            now[0] += 25.0
            super().on_train_batch_end(*args)

    fit(Watched(**{**QUIET, "every_n_minutes": 1.0}), max_steps=8)
    assert seen == [(3, "last.ckpt"), (6, "last.ckpt"), (8, "last.ckpt")]  # 75 s, 150 s, and the end


def scored(make_model, values):
    """Return a model that logs these scores, one a validation."""
    model = make_model()
    rest = iter(values)
    model.on_validation_epoch_end = lambda: model.log("val/score", torch.tensor(next(rest)))
    return model


VALIDATED = {"limit_val_batches": 1, "val_check_interval": 2, "num_sanity_val_steps": 0, "max_steps": 10}


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", [3.0, 2.0, 2.5, 1.0, 4.0], 8),
        ("max", [3.0, 2.0, 2.5, 1.0, 4.0], 10),
        ("min", [3.0, 3.0, 3.0, 3.0, 3.0], 2),
        ("min", [float("nan"), 2.0, float("nan"), 3.0, float("nan")], 4),
        ("max", [1.0, float("nan"), 0.0, 0.0, 0.0], 2),
    ],
)
def test_best_is_replaced_when_the_score_improves(mode, values, best, saved, make_model):
    callback = Checkpoints(**{**QUIET, "monitor": "val/score"}, mode=mode)
    assert saved(callback, model=scored(make_model, values), **VALIDATED)["best.ckpt"] == best


def test_a_score_that_nothing_logs_is_refused_at_the_first_validation(saved, make_model):
    options = {**VALIDATED, "model": scored(make_model, [1.0] * 5)}
    with pytest.raises(UserError, match=r"'val/scored'.*\n.*Did you mean val/score\? Scores of this run: val/score\."):
        saved(Checkpoints(**{**QUIET, "monitor": "val/scored"}), **options)


def test_a_score_of_the_model_that_is_not_there_gives_no_best(saved, make_model):
    options = {**VALIDATED, "model": scored(make_model, [1.0] * 5)}
    assert saved(Checkpoints(**{**QUIET, "monitor": "auto"}), **options) == {"last.ckpt": 10}


def test_the_model_names_the_score_where_the_user_does_not(saved, make_model):
    callback = Checkpoints(**{**QUIET, "monitor": "auto"})
    model = scored(make_model, [1.0, 3.0, 0.5, 2.0, 4.0])
    model.monitor = "val/score"
    assert saved(callback, model=model, **VALIDATED)["best.ckpt"] == 6


def test_the_score_that_a_model_names_has_its_mode():
    with pytest.raises(UserError, match=r"checkpoints\.mode is max"):
        Checkpoints(monitor="auto", mode="max")


def test_a_resumed_run_does_not_replace_a_better_one(saved, make_model, tmp_path):
    for values, end in (([1.0, 2.0], 4), ([1.5, 0.5], 8)):
        resume = tmp_path / "checkpoints" / "last.ckpt" if end == 8 else None
        callback = Checkpoints(**{**QUIET, "monitor": "val/score"})
        options = {**VALIDATED, "max_steps": end, "resume": resume}
        found = saved(callback, model=scored(make_model, values), **options)
        assert found["best.ckpt"] == (2 if end == 4 else 8)
    assert callback.best_score == 0.5


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"every_n_minutes": -1.0}, {"keep_every_n_steps": 0}])
def test_cadences_that_are_none(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Checkpoints(**options)


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, path)

    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        writer.save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"step": 1} and list(tmp_path.iterdir()) == [path]
