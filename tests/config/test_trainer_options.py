"""Every argument of Lightning's Trainer either works as documented or is refused with what to use instead."""

import csv
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from aigc_lightning.config.allowed_classes import LISTED
from aigc_lightning.config.trainer_options import OPTIONS
from aigc_lightning.core.engine.distributed import PlayersStrategy
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.models.vae import VAE

VAE_CONFIG = {"model": {"class_path": "vae", "init_args": {"width": 8, "latent_size": 4}}}
DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_table_has_every_argument_of_the_installed_trainer():
    arguments = [name for name in inspect.signature(Trainer).parameters if name != "self"]
    assert list(OPTIONS) == arguments


def test_the_page_shows_the_table():
    text = DOCS.read_text()
    rows = re.findall(r"^\| `(\w+)` \| (works|replaced|refused) \| (.+) \|$", text, re.MULTILINE)
    assert [(name, status, about.replace("\\|", "|")) for name, status, about in rows] == [
        (name, option.status, option.about) for name, option in OPTIONS.items()
    ]


def test_the_page_lists_the_classes():
    rows = re.findall(r"^\| `([\w.]+\.[\w.]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert rows == list(LISTED)


#: Values that are refused, by argument, on the command line and in YAML.
REFUSED: dict[str, list[Any]] = {
    "logger": [False, [], {"class_path": "CSVLogger", "init_args": {"save_dir": "x"}}],
    "accumulate_grad_batches": [2],
    "use_distributed_sampler": [False],
    "barebones": [True],
    "plugins": [{"class_path": "lightning.pytorch.plugins.TorchCheckpointIO"}, [{"class_path": "TorchSyncBatchNorm"}]],
    "default_root_dir": ["x"],
    "model_registry": ["me/mine"],
}


def test_what_does_not_work_is_refused_by_name(aigc, write, folder):
    assert REFUSED.keys() == {name for name, option in OPTIONS.items() if option.status != "works"}
    for name, values in REFUSED.items():
        for value in values:
            text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
            plain = write("plain.yaml")
            given = write("given.yaml", {"trainer": {name: value}})
            for done in (aigc("fit", "--config", plain, f"--trainer.{name}={text}"), aigc("fit", "--config", given)):
                assert done.code == 2 and f"trainer.{name}" in done.err, (name, value, done.err)
                assert OPTIONS[name].instead in done.err, (name, value, done.err)
    assert not (folder / "runs").exists()


@pytest.fixture
def fit(aigc, write, folder):
    """Run `aigc fit` with changes of the tiny config and return its outcome and folder."""

    def run(*argv, **changes):
        own = VAE_CONFIG if changes.pop("vae", False) else {}
        config = write("c.yaml", {"trainer": changes})
        config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **own}))
        done = aigc("fit", "--config", config, *argv)
        assert done.code == 0, done.err + done.out
        named = re.search(r"^Run folder: (.+)$", done.out, re.MULTILINE)
        return done, Path(named[1]) if named else None

    return run


def rows_of(run):
    return list(csv.DictReader((run / "metrics.csv").open()))


def seen(monkeypatch):
    """Return a list to which the samples of each batch that a VAE trains on are added."""
    batches = []
    step = VAE.training_step

    def look(self, batch, *rest):
        batches.append(batch["index"].tolist())
        return step(self, batch, *rest)

    monkeypatch.setattr(VAE, "training_step", look)
    return batches


@pytest.mark.parametrize(("given", "batches"), [(1, 1), (2, 2), (0.5, 2), (1.0, 5)])
def test_overfitting_trains_on_the_same_batches(given, batches, fit, monkeypatch):
    found = seen(monkeypatch)
    done, _ = fit(overfit_batches=given, max_steps=7, vae=True)
    assert "overfit but enabled" not in done.err  # Lightning's warning that it stops shuffling, with its own path
    assert len(found) == 7
    first = found[:batches]
    assert len({number for batch in first for number in batch}) == sum(map(len, first))  # a part of an epoch
    assert found == [first[number % batches] for number in range(7)]


def test_overfitting_goes_on_after_a_resume(fit, aigc, monkeypatch):
    found = seen(monkeypatch)
    _, run = fit(overfit_batches=3, max_steps=4, vae=True)
    assert aigc("fit", "--resume", run, "--trainer.max_steps", 8).code == 0
    assert found == [found[number % 3] for number in range(8)]


def test_a_limited_epoch_goes_on_where_the_last_one_ended(fit, monkeypatch):
    found = seen(monkeypatch)
    _, run = fit(limit_train_batches=2, max_steps=-1, max_epochs=2, vae=True)
    assert len(found) == 4 and len({number for batch in found for number in batch}) == sum(map(len, found))
    assert len(rows_of(run)) == 4


def test_limits_of_the_other_loops(fit, aigc):
    _, run = fit(limit_val_batches=0)
    assert "val/sliced_wasserstein" not in rows_of(run)[0]
    assert aigc("predict", "--checkpoint", run, "--trainer.limit_predict_batches", 1).code == 0
    assert len(list((run / "predictions").glob("*.png"))) == 300  # of 360
    assert (
        aigc("test", "--checkpoint", run).out
        != aigc("test", "--checkpoint", run, "--trainer.limit_test_batches", 1).out
    )


@pytest.mark.parametrize("batches", [True, 2])
def test_a_trial_of_some_batches_is_no_run(batches, fit, aigc, folder):
    done, run = fit(fast_dev_run=batches)
    assert run is None and not (folder / "runs").exists()
    assert f"{int(batches)} batch" in done.out and "Next:" not in done.out
    resumed = aigc("fit", "--config", "c.yaml", "--trainer.fast_dev_run", "false", "--resume")
    assert resumed.code == 2 and "no run to resume" in resumed.err
    for option, value in (("--run", "x"), ("--resume", "latest"), ("--trainer.profiler", "simple")):
        done = aigc("fit", "--config", "c.yaml", option, value)
        assert done.code == 2 and "fast_dev_run" in done.err and option.removeprefix("--") in done.err
    assert sorted(path.name for path in folder.iterdir()) == ["c.yaml"]


def test_a_run_without_checkpoints(fit, aigc, folder):
    done, run = fit(enable_checkpointing=False)
    assert not list(run.rglob("*.ckpt")) and (run / "metrics.csv").is_file() and "Next:" not in done.out


def test_profilers_write_into_the_run(fit, aigc):
    for name in ("simple", "advanced", {"class_path": "SimpleProfiler", "init_args": {"filename": "mine"}}):
        done, run = fit(profiler=name)
        (path,) = re.findall(r"^Profile: (.+)$", done.out, re.MULTILINE)
        assert Path(path).parent == run / "profile" and "training_step" in Path(path).read_text()
    assert Path(path).name == "fit-mine.txt"
    resumed = aigc("fit", "--resume", run, "--trainer.profiler", "null", "--trainer.max_steps", 4)
    assert resumed.code == 0 and "Profile:" not in resumed.out


@pytest.mark.slow
def test_the_profiler_of_torch(fit):
    done, _ = fit(profiler="pytorch")
    (path,) = re.findall(r"^Profile: (.+)$", done.out, re.MULTILINE)
    assert "Self CPU" in Path(path).read_text()


@pytest.mark.slow
def test_strategies_by_name_and_by_class(fit):
    for given in ("ddp", {"class_path": "DDPStrategy", "init_args": {"find_unused_parameters": True}}):
        assert (fit(vae=True, strategy=given)[1] / "checkpoints" / "last.ckpt").is_file()


def test_a_profiler_that_is_not_there(aigc, tiny):
    done = aigc("fit", "--config", tiny, "--trainer.profiler", "simpel")
    assert done.code == 2 and "'simpel'" in done.err and "simple" in done.err


def test_loggers_beside_metrics_csv(fit):
    _, run = fit("--logger", "tensorboard", logger=True)
    assert (run / "metrics.csv").is_file() and list((run / "tensorboard").glob("events*"))


def test_a_trusted_logger_stands_beside_ours(fit, folder):
    spec = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "own"}}
    _, run = fit("--trust-config", "--logger", "tensorboard", logger=spec)
    assert (run / "metrics.csv").is_file() and list((run / "tensorboard").glob("events*"))
    assert list((folder / "own").rglob("metrics.csv"))


#: Values of arguments that work, and how many steps the run must have done (0: see nothing but that it ends).
ENDS: dict[str, tuple[dict[str, Any], int | None]] = {
    "epochs": ({"max_steps": -1, "max_epochs": 1}, 5),
    "steps": ({"max_steps": 2}, 2),
    "steps or epochs": ({"max_steps": 7, "max_epochs": 1}, 5),
    "no step": ({"max_steps": 0}, 0),
    "time": ({"max_steps": -1, "max_time": "00:00:00:00"}, None),
    "at least": ({"max_steps": -1, "max_time": {"seconds": 0}, "min_steps": 7}, 7),
    "at least epochs": ({"max_steps": -1, "max_time": {"seconds": 0}, "min_epochs": 1}, 5),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_long(name, fit):
    changes, steps = ENDS[name]
    _, run = fit(**changes)
    path = run / "checkpoints" / "last.ckpt"
    if steps:
        assert torch.load(path, weights_only=True)["global_step"] == steps


#: Arguments that look on, or that choose between equal ways.
SAME = {
    "num_sanity_val_steps": 1,
    "enable_model_summary": True,
    "enable_progress_bar": False,
    "deterministic": True,
    "benchmark": True,
    "inference_mode": False,
    "detect_anomaly": True,
    "reload_dataloaders_every_n_epochs": 1,
    "enable_autolog_hparams": False,
    "log_every_n_steps": 2,
    "profiler": "simple",
    "check_val_every_n_epoch": None,
    "val_check_interval": 3,
    "enable_checkpointing": True,
    "accumulate_grad_batches": 1,
}


def test_what_looks_on_does_not_change_the_weights(fit, differing):
    _, plain = fit(max_steps=7)
    done, run = fit(max_steps=7, **SAME)
    assert differing(plain / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt") == []
    assert "Total params" in done.out + done.err and "images/s" not in done.out
    rows = rows_of(run)
    assert [row["step"] for row in rows if row["train/generator_loss"]] == ["2", "4", "6", "7"]
    assert [row["step"] for row in rows if row["val/sliced_wasserstein"]] == ["3", "6"]


@pytest.mark.parametrize("change", [{"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}])
def test_what_acts_on_one_optimizer(change, fit, aigc, differing):
    _, plain = fit(vae=True)
    _, run = fit(vae=True, **change)
    assert len(differing(plain / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")) > 10
    for name, value in change.items():
        refused = aigc("fit", "--model=dcgan", "--data=digits", f"--trainer.{name}={value}")
        assert refused.code == 2 and name in refused.err and "--engine." in refused.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_batch_statistics_over_processors_are_refused(aigc, tiny):
    done = aigc("fit", "--config", tiny, "--trainer.sync_batchnorm", "true")
    assert done.code == 2 and "trainer.sync_batchnorm" in done.err and "GPUs" in done.err


def test_batch_statistics_reach_the_strategy():
    strategy = PlayersStrategy(start_method="popen")
    trainer = silent_trainer(devices=2, strategy=strategy, sync_batchnorm=True)
    assert strategy._layer_sync is not None
    applied: Any = strategy._layer_sync.apply(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    assert trainer.strategy is strategy and isinstance(applied[1], nn.SyncBatchNorm)


#: Who monitors a score, by the changes of the config.
MONITORS = {
    "checkpoints.monitor": {"checkpoints": {"monitor": "val/sliced_waserstein"}},
    "EarlyStopping.monitor": {
        "trainer": {
            "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/sliced_waserstein"}}],
            "val_check_interval": 2,
        }
    },
    "at the end of an epoch": {
        "trainer": {
            "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/sliced_waserstein"}}],
            "max_steps": 6,
        }
    },
    "ModelCheckpoint.monitor": {
        "trainer": {
            "callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/sliced_waserstein"}}],
            "val_check_interval": 2,
        }
    },
}


@pytest.mark.parametrize("option", MONITORS)
def test_a_misspelt_score_is_told_at_the_first_validation(option, aigc, write):
    done = aigc("fit", "--config", write("c.yaml", {"trainer": {"val_check_interval": 2}}, MONITORS[option]))
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert option in done.err or "EarlyStopping.monitor" in done.err
    assert "'val/sliced_waserstein'" in done.err and "Did you mean val/sliced_wasserstein?" in done.err
    assert "Scores of this run: val/sliced_wasserstein." in done.err


def test_a_score_without_validations(aigc, tiny, folder):
    options = ("--checkpoints.monitor", "val/sliced_wasserstein", "--trainer.limit_val_batches", 0)
    done = aigc("fit", "--config", tiny, *options)
    log = (folder / "runs" / "tiny" / "1" / "log.txt").read_text()
    assert done.code == 0 and "no validation, so no best checkpoint by val/sliced_wasserstein is kept" in log


def test_a_score_that_comes_with_a_later_validation(aigc, write, judge):
    scores = {"extractor": str(judge), "num": 20, "every_n_validations": 2}
    callbacks = [{"class_path": "evaluation", "init_args": scores}]
    trainer = {"callbacks": callbacks, "max_steps": 4, "val_check_interval": 1}
    options = ("--checkpoints.monitor", "val/frechet_distance")
    done = aigc("fit", "--config", write("c.yaml", {"trainer": trainer}), *options)
    assert done.code == 0, done.err


#: The classes that a config may name, with what they need.
LISTED_CALLBACKS = {
    "DeviceStatsMonitor": {"cpu_stats": False},  # which needs psutil
    "EarlyStopping": {"monitor": "val/negative_elbo"},
    "LearningRateMonitor": {"logging_interval": "step"},
    "ModelCheckpoint": {"monitor": "val/negative_elbo", "save_top_k": 2},
    "RichModelSummary": {"max_depth": 2},
    "StochasticWeightAveraging": {"swa_lrs": 1e-3},
}


def test_every_listed_callback_works(fit):
    listed = [path.rpartition(".")[2] for path in LISTED if ".callbacks." in path]
    assert sorted(LISTED_CALLBACKS) == sorted(listed)
    for name, init_args in LISTED_CALLBACKS.items():
        spec = {"class_path": name, "init_args": init_args}
        done, run = fit(vae=True, callbacks=[spec], max_epochs=1, max_steps=-1)
        if name == "LearningRateMonitor":
            assert all(float(row["lr-Adam"]) > 0 for row in rows_of(run) if row["lr-Adam"])
        if name == "ModelCheckpoint":
            assert len(list((run / "checkpoints").glob("epoch=*.ckpt"))) == 1
        if "Summary" in name:
            assert "Total params" in done.out + done.err
