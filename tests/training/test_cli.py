"""A run from the command line, and what it leaves behind."""

import csv
import json
import os

import pytest
import torch
import yaml
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.data.sets.digits import Digits


@pytest.fixture
def run(aigc, tiny):
    """Run `aigc fit` on the tiny config; an error fails the test."""

    def fit(*argv):
        done = aigc("fit", "--config", tiny, *argv)
        assert done.code == 0, done.err + done.out
        return done

    return fit


def test_everything_that_a_run_leaves_behind(run, folder):
    options = ["--trainer.max_steps", 4, "--trainer.val_check_interval", 2, "--grids.every_n_steps", 2]
    done = run(*options, "--checkpoints.every_n_steps", 2, "--checkpoints.keep_every_n_steps", 2)
    left = folder / "runs" / "tiny" / "1"
    assert sorted(path.relative_to(left).as_posix() for path in left.rglob("*") if path.is_file()) == [
        ".lock",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/step_0000002.ckpt",
        "checkpoints/step_0000004.ckpt",
        "config.yaml",
        "environment.json",
        "grids/seeds.txt",
        "grids/step_000000.png",
        "grids/step_000002.png",
        "grids/step_000004.png",
        "log.txt",
        "losses.png",
        "metrics.csv",
        "timelapse.gif",
    ]
    assert "Run folder: runs/tiny/1" in done.out
    assert done.out.rstrip().splitlines()[-1].startswith("Next: aigc sample runs/tiny/1")
    rows = list(csv.DictReader((left / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(float(row["train/discriminator_loss"]) > 0 and float(row["train/generator_loss"]) > 0 for row in rows)
    assert [bool(row["val/sliced_wasserstein"]) for row in rows] == [False, True, False, True]
    assert "0 1\n2 3" in (left / "grids" / "seeds.txt").read_text()
    assert GifImageFile(left / "timelapse.gif").n_frames == 3
    assert (
        json.loads((left / "environment.json").read_text())["packages"]["torch"] == torch.__version__.partition("+")[0]
    )


def test_best_is_the_checkpoint_of_the_best_score(run, folder):
    run("--trainer.max_steps", 5, "--trainer.val_check_interval", 1, "--checkpoints.keep_every_n_steps", 1)
    left = folder / "runs" / "tiny" / "1"
    scores = {
        int(row["step"]): float(row["val/sliced_wasserstein"]) for row in csv.DictReader((left / "metrics.csv").open())
    }
    best = torch.load(left / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == min(scores, key=scores.__getitem__)


def test_runs_are_numbered_and_nothing_is_overwritten(run, folder):
    run()
    before = {path: path.read_bytes() for path in (folder / "runs" / "tiny" / "1").rglob("*") if path.is_file()}
    assert "runs/tiny/2" in run().out
    (folder / "runs" / "tiny" / "7").mkdir()
    assert "runs/tiny/8" in run().out
    assert {path: path.read_bytes() for path in before} == before


def test_a_chosen_folder(run, folder):
    assert "Run folder: my/run\n" in run("--run", "my/run").out
    again = run("--run", "my/run").out
    assert "Run folder: my/run-2\n" in again
    assert "my/run is in use or not empty, so this run goes to my/run-2." in again
    assert "Run folder: my/run-3\n" in run("--run", "my/run").out
    (folder / "empty").mkdir()
    assert "Run folder: empty\n" in run("--run", "empty").out


def test_the_present_folder_can_be_chosen(run, folder):
    out = run("--run", ".").out  # it holds the config, so its next sibling is taken
    assert f"{folder.name}-2" in out and (folder.parent / f"{folder.name}-2" / "config.yaml").exists()


def test_one_seed_gives_equal_weights_and_another_does_not(run, folder, differing):
    run("--run", "a", "--seed_everything", 3)
    torch.rand(100)  # the state that another run has left must not matter
    run("--run", "b", "--seed_everything", 3)
    run("--run", "c", "--seed_everything", 4)
    last = [folder / name / "checkpoints" / "last.ckpt" for name in "abc"]
    assert differing(last[0], last[1]) == []
    assert len(differing(last[0], last[2])) > 10


def test_a_seed_that_lightning_chose_is_written_down(run, folder):
    run("--seed_everything", "true")
    seed = yaml.safe_load((folder / "runs" / "tiny" / "1" / "config.yaml").read_text())["seed_everything"]
    assert type(seed) is int
    record = torch.load(folder / "runs" / "tiny" / "1" / "checkpoints" / "last.ckpt", weights_only=True)[RECORD_KEY]
    assert record["seed"] == seed


@pytest.mark.parametrize(("images", "steps"), [(1, 1), (300, 1), (301, 2), (900, 3)])
def test_a_budget_in_images(images, steps, write, aigc, folder):
    write("tiny.yaml", {"trainer": {"max_steps": -1}})
    assert aigc("fit", "--config", "tiny.yaml", "--max_images", images).code == 0
    checkpoint = torch.load(folder / "runs" / "tiny" / "1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == steps


def test_a_budget_in_epochs_counts_batches(aigc, write, folder):
    write("tiny.yaml", {"trainer": {"max_steps": -1, "max_epochs": 2}})
    assert aigc("fit", "--config", "tiny.yaml").code == 0
    checkpoint = torch.load(folder / "runs" / "tiny" / "1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 10  # 1,437 images are five batches of 300


def test_a_run_without_an_end_gets_one(aigc, write, folder):
    from aigc_lightning.training.trainer_values import DEFAULT_MAX_STEPS, set_default_limit

    trainer = {"max_steps": -1, "max_epochs": None, "max_time": None, "fast_dev_run": False}
    set_default_limit(trainer, None)
    assert trainer["max_steps"] == DEFAULT_MAX_STEPS
    for given in ({"max_epochs": 3}, {"max_time": "00:00:01:00"}, {"fast_dev_run": True}):
        other = {**trainer, "max_steps": -1, **given}
        set_default_limit(other, None)
        assert other["max_steps"] == -1


def test_the_saved_config_starts_the_same_run(run, aigc, folder, differing):
    run("--model.width", 4)
    done = aigc("fit", "--config", "runs/tiny/1/config.yaml")
    assert done.code == 0, done.err
    last = [folder / "runs" / "tiny" / number / "checkpoints" / "last.ckpt" for number in "12"]
    assert differing(*last) == []


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions(precision, run):
    assert "step 3/3" in run("--trainer.precision", precision).out


def test_quiet_runs(run, folder):
    assert "step" not in run("--trainer.enable_progress_bar", "false").out


def test_validation_test_and_prediction_of_a_run(run, aigc, folder):
    run()
    (folder / "elsewhere").mkdir()
    scores = {}
    for stage in ("validate", "test"):
        done = aigc(stage, "--checkpoint", "runs/tiny/1", "--trainer.limit_test_batches", 1)
        assert done.code == 0, done.err
        name, _, score = done.out.splitlines()[-1].partition(": ")
        scores[name] = float(score)
    # Digits have no test images of their own: the held-out ones stand in.
    assert scores["val/sliced_wasserstein"] == scores["test/sliced_wasserstein"] > 0
    done = aigc("predict", "--checkpoint", "runs/tiny/1/checkpoints/last.ckpt", "--run", "elsewhere")
    assert done.code == 0, done.err
    pictures = sorted((folder / "elsewhere" / "predictions").glob("*.png"))
    assert len(pictures) == 360 and Image.open(pictures[0]).size == (8, 8)  # the digits that are held out
    assert not (folder / "runs" / "tiny" / "2").exists()


def test_validation_scores_the_weights_of_the_checkpoint(run, aigc, folder):
    run("--trainer.max_steps", 4, "--trainer.val_check_interval", 2, "--checkpoints.keep_every_n_steps", 2)
    rows = list(csv.DictReader((folder / "runs" / "tiny" / "1" / "metrics.csv").open()))
    trained = {row["step"]: float(row["val/sliced_wasserstein"]) for row in rows if row["val/sliced_wasserstein"]}
    for step in ("2", "4"):
        done = aigc("validate", "--checkpoint", f"runs/tiny/1/checkpoints/step_000000{step}.ckpt")
        assert float(done.out.rpartition(": ")[2]) == pytest.approx(trained[step], rel=1e-4)


def test_loss_that_is_not_finite_ends_the_run_before_it_reaches_a_checkpoint(aigc, tiny, folder):
    options = ["--model.generator_lr", 1e30, "--trainer.max_steps", 50, "--checkpoints.every_n_steps", 1]
    done = aigc("fit", "--config", tiny, *options)
    assert done.code == 2 and "finite" in done.err and "learning rate" in done.err and len(done.lines) <= 4
    for path in (folder / "runs" / "tiny" / "1" / "checkpoints").glob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(tensor).all() for name, tensor in state.items() if "discriminator" in name)


def test_nothing_of_a_run_stays_in_the_process(run, folder):
    before = dict(os.environ)
    run()
    changed = {name for name in os.environ.keys() | before.keys() if os.environ.get(name) != before.get(name)}
    assert not [name for name in changed if name.startswith("AIGC")]


def test_the_log_file(aigc, write, folder):
    write("tiny.yaml", {"trainer": {"limit_val_batches": 0}})
    assert aigc("fit", "--config", "tiny.yaml").code == 0
    lines = (folder / "runs" / "tiny" / "1" / "log.txt").read_text().splitlines()
    assert "Start: aigc fit --config tiny.yaml" in lines[0]
    assert lines[-1].endswith("End: finished")
    assert any("max_steps=3" in line for line in lines)  # Lightning's own lines


def test_the_log_file_has_the_traceback_of_an_error(aigc, tiny, folder, monkeypatch):
    from aigc_lightning.models.dcgan import DCGAN

    monkeypatch.setattr(DCGAN, "adversarial_step", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        aigc("fit", "--config", tiny)
    text = (folder / "runs" / "tiny" / "1" / "log.txt").read_text()
    assert "Traceback" in text and "End: ZeroDivisionError" in text
    monkeypatch.undo()


def test_the_log_file_has_the_mistake_that_ended_a_run(aigc, tiny, folder):
    assert aigc("fit", "--config", tiny, "--data.size", 10).code == 2
    text = (folder / "runs" / "tiny" / "1" / "log.txt").read_text()
    assert "multiples of 4" in text and "Start: aigc fit" in text


def test_predictions_of_classes_are_a_table(aigc, judge, folder):
    done = aigc("predict", "--checkpoint", judge, "--run", "elsewhere", "--trainer.limit_predict_batches", 1)
    assert done.code == 0 and "Predictions: elsewhere/predictions" in done.out.replace(str(folder) + "/", ""), done.err
    with (folder / "elsewhere/predictions/classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == [str(number) for number in range(len(rows))] and len(rows) > 10
    labels = Digits(size=8).val_source().labels(range(len(rows)))
    assert labels is not None
    right = [row["class"] == str(label) for row, label in zip(rows, labels.tolist(), strict=True)]
    assert sum(right) > 0.7 * len(right)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", ["Mute predicts nothing", "neither sample, edit, classify nor embed"]),
        ("def predict_step(self, batch, batch_idx): return {}", ["Mute predicted nothing that can be written"]),
    ],
    ids=["no capability", "no output"],
)
def test_predictions_are_not_claimed_where_there_are_none(aigc, site, folder, body, words):
    text = "from aigc_lightning.core.image_model import ImageModel\nclass Mute(ImageModel):\n"
    text += f"    {body or 'pass'}\n"
    site.install("aigc-mute", {"models": {"mute": "aigc_mute:Mute"}}, {"aigc_mute.py": text}, marked=False)
    done = aigc("predict", "--model", "mute", "--data", "digits", "--data.size", 8, "--run", "r")
    assert done.code == 2 and all(word in done.err for word in words) and "Predictions:" not in done.out, done.err
