"""Scores while a model trains: those of `aigc evaluate`, on one process and on two."""

import csv
import json

import pytest
import yaml

from aigc_lightning.callbacks.evaluation import Evaluation
from aigc_lightning.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_ASSETS", str(tmp_path / "assets"))


@pytest.fixture
def scored(write, judge):
    """Return a config whose validations score samples."""
    callback = {"class_path": "evaluation", "init_args": {"extractor": str(judge), "num": 100}}
    trainer = {"val_check_interval": 1, "callbacks": [callback]}
    return write("scored.yaml", {"trainer": trainer, "checkpoints": {"monitor": "val/frechet_distance"}})


def logged(run):
    with (run / "metrics.csv").open() as file:
        return [float(row["val/frechet_distance"]) for row in csv.DictReader(file) if row.get("val/frechet_distance")]


def test_the_number_is_the_one_of_evaluate_and_chooses_the_best(aigc, scored, judge, folder):
    done = aigc("fit", "--config", scored, "--run", "r")
    assert done.code == 0, done.err
    values = logged(folder / "r")
    assert len(values) == 3 and "val/evaluation_seconds" in (folder / "r" / "metrics.csv").read_text()
    for name, value in {"last": values[-1], "best": min(values)}.items():
        checkpoint = folder / "r" / "checkpoints" / f"{name}.ckpt"
        options = ("--extractor", judge, "--num", 100, "--metrics", "frechet_distance", "--out", name)
        assert aigc("evaluate", checkpoint, *options).code == 0
        found = json.loads((folder / name / "scores.json").read_text())["sections"][0]["scores"]
        assert found["frechet_distance"] == pytest.approx(value, rel=1e-6)


def test_the_extractor_is_not_in_the_checkpoint(aigc, scored, folder):
    import torch

    assert aigc("fit", "--config", scored, "--run", "r").code == 0
    state = torch.load(folder / "r" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state and {name.partition(".")[0] for name in state} == {"generator", "discriminator", "averages"}


@pytest.mark.slow
def test_two_processes_get_the_number_of_one(aigc_process, script, scored, folder):
    for name, devices, size in (("one", 1, 300), ("two", 2, 150)):
        options = ("--trainer.devices", devices, "--data.batch_size", size, "--run", name)
        done = aigc_process(script, "fit", "--config", scored, *options)
        assert done.code == 0, done.err
    # The weights differ in their last bits, since sums of two shares round differently.
    assert logged(folder / "two") == pytest.approx(logged(folder / "one"), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"extractor": "inception"}, "aigc assets fetch inception"),
        ({"scores": ["psnr"]}, "scores of sets of images"),
        ({"scores": ["frechet"]}, "frechet_distance"),
        ({"num": 1}, "at least 2"),
        ({"every_n_validations": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_scored_is_refused_when_the_run_is_set_up(judge, arguments, message):
    with pytest.raises(UserError) as refused:
        Evaluation(**{"extractor": str(judge), **arguments})
    assert message in f"{refused.value.what} {refused.value.hint}"


def test_a_model_without_samples_is_refused_before_training(aigc, scored, folder):
    config = yaml.safe_load(scored.read_text())
    config["model"] = {"class_path": "cnn", "init_args": {"width": 4}}
    scored.write_text(yaml.safe_dump(config))
    done = aigc("fit", "--config", scored)
    assert done.code == 2 and "A CNN generates no samples to score" in done.err and len(done.lines) <= 4
