"""A run that goes on is the run that was never interrupted."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace

from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.lock import claim
from aigc_lightning.training.resume import newest_loadable
from aigc_lightning.training.same_settings import differences_between

#: Nets and data with state in every corner: batch norm, spectral norm, augmentation, two validations.
CHANGES = {
    "model": {"init_args": {"generator_norm": "batch", "discriminator_norm": "spectral"}},
    "data": {"init_args": {"augmentation": {"flip": True, "crop": 1}}},
    "trainer": {"max_steps": 8, "val_check_interval": 2},
    "checkpoints": {"keep_every_n_steps": 1},
    "grids": {"every_n_steps": 2},
}
LAST = Path("checkpoints") / "last.ckpt"


@pytest.fixture
def whole(aigc, write, folder):
    """Return the folder of an uninterrupted run of eight steps that kept each step: five batches are an epoch."""
    write("whole.yaml", CHANGES)
    done = aigc("fit", "--config", "whole.yaml")
    assert done.code == 0, done.err
    return folder / "runs" / "whole" / "1"


@pytest.mark.parametrize("step", [1, 3, 5, 6], ids=lambda step: f"step{step}")
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(step, whole, aigc, folder, differing):
    done = aigc(
        "fit", "--config", "whole.yaml", "--resume", whole / "checkpoints" / f"step_000000{step}.ckpt", "--run", "b"
    )
    assert done.code == 0, done.err
    for later in range(step + 1, 9):
        name = f"step_000000{later}.ckpt"
        assert differing(whole / "checkpoints" / name, folder / "b" / "checkpoints" / name) == []
    first, second = (list(csv.DictReader((run / "metrics.csv").open())) for run in (whole, folder / "b"))
    assert second == [row for row in first if int(row["step"]) > step]
    grids = [path.name for path in (folder / "b" / "grids").glob("*.png")]
    assert "step_000008.png" in grids
    assert [(whole / "grids" / name).read_bytes() for name in grids] == [
        (folder / "b" / "grids" / name).read_bytes() for name in grids
    ]


@pytest.mark.parametrize("first", [2, 5], ids=["mid-epoch", "end of epoch"])
def test_a_run_that_ended_goes_on_in_its_folder(first, whole, aigc, folder, differing):
    write = ["--config", "whole.yaml", "--run", "part"]
    assert aigc("fit", *write, "--trainer.max_steps", first).code == 0
    done = aigc("fit", "--resume", "part", "--trainer.max_steps", 8)
    assert done.code == 0 and "Run folder: part\n" in done.out, done.err
    assert differing(whole / LAST, folder / "part" / LAST) == []
    # The end of the first part is validated, too, where an epoch ends.
    rows = [list(csv.DictReader((run / "metrics.csv").open())) for run in (whole, folder / "part")]
    losses = [[(row["step"], row["train/generator_loss"]) for row in part] for part in rows]
    assert losses[0] == losses[1]
    assert yaml.safe_load((folder / "part" / "config_before_1.yaml").read_text())["trainer"]["max_steps"] == first
    log = (folder / "part" / "log.txt").read_text()
    assert log.count("Start:") == 2 and log.count("End: finished") == 2


def test_the_latest_run_of_a_config(aigc, tiny, folder):
    for _ in range(2):
        aigc("fit", "--config", tiny)
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 0 and "Run folder: runs/tiny/2" in done.out, done.err
    assert torch.load(folder / "runs/tiny/2" / LAST, weights_only=True)["global_step"] == 5
    assert torch.load(folder / "runs/tiny/1" / LAST, weights_only=True)["global_step"] == 3


def test_the_latest_of_a_chosen_folder(aigc, tiny, folder):
    aigc("fit", "--config", tiny, "--run", "mine")
    done = aigc("fit", "--run", "mine", "--resume", "--trainer.max_steps", 5)
    assert done.code == 0 and "Run folder: mine\n" in done.out, done.err


def test_a_run_that_is_over_says_so(aigc, tiny):
    aigc("fit", "--config", tiny)
    done = aigc("fit", "--config", tiny, "--resume")
    assert done.code == 2 and "step 3" in done.err and "--trainer.max_steps" in done.err and len(done.lines) <= 4


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--model.width", 16, ["model.width", "8", "16"]),
        ("--model.generator_lr", 0.5, ["model.generator_lr", "0.0002", "0.5"]),
        ("--model.loss", "hinge", ["model.loss", "nonsaturating", "hinge"]),
        ("--data.size", 12, ["data.size", "8", "12"]),
        ("--ema.decay", 0.5, ["ema.decay", "0.999", "0.5"]),
        ("--engine.ema_decay", 0.5, ["ema.decay", "0.999", "0.5"]),
        ("--ema.half_life_images", 500, ["ema.half_life_images", "None", "500"]),
        ("--engine.micro_batches", 2, ["engine.micro_batches"]),
        ("--trainer.precision", "64-true", ["trainer.precision", "32-true", "64-true"]),
        ("--trainer.precision", "bf16", ["trainer.precision", "32-true", "bf16-mixed"]),
        ("--seed_everything", 5, ["seed_everything", "0", "5"]),
    ],
)
def test_values_that_differ_from_the_checkpoints_are_refused(option, value, said, aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    before = (folder / "runs/tiny/1" / LAST).read_bytes()
    done = aigc("fit", "--config", tiny, "--resume", option, value, "--trainer.max_steps", 5)
    assert done.code == 2 and len(done.lines) <= 4
    assert all(text in done.err for text in [*said, "other settings"])
    assert (folder / "runs/tiny/1" / LAST).read_bytes() == before


def test_values_that_change_nothing_that_is_seen_may_differ(aigc, tiny):
    aigc("fit", "--config", tiny)
    options = ["--trainer.max_steps", 5, "--trainer.log_every_n_steps", 2, "--grids.num", 9]
    assert aigc("fit", "--config", tiny, "--resume", *options).code == 0


def test_the_same_settings_written_otherwise_are_the_same(aigc, tiny):
    aigc("fit", "--config", tiny)
    options = ["--trainer.max_steps", 5, "--trainer.precision", 32, "--model.generator_lr", "2e-4"]
    options += ["--data", "aigc_lightning.data.sets.digits.Digits"]
    options += ["--data.size", 8, "--data.batch_size", 300]
    done = aigc("fit", "--config", tiny, "--resume", *options)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        (["--trainer.devices", 2], "300 images per step and would now take 600", "Use --data.batch_size 150."),
        (["--data.batch_size", 10], "300 images per step and would now take 10 ", "Use --data.batch_size 300."),
        (["--trainer.devices", 7], "would now take 2100 (data.batch_size 300 on 7", "use 1, 2, 3, 4, 5, 6, 10, 12"),
    ],
)
def test_another_number_of_images_a_step_is_refused_with_what_to_write(options, what, hint, aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    before = (folder / "runs/tiny/1" / LAST).read_bytes()
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5, *options)
    assert done.code == 2 and what in done.err and hint in done.err and len(done.lines) <= 4
    assert (folder / "runs/tiny/1" / LAST).read_bytes() == before


def test_a_run_of_version_0_1_goes_on_with_a_line(aigc, tiny, folder, differing):
    def as_before(checkpoint):
        for key in ("Digits", "aigc_unlogged"):
            del checkpoint[key]
        del checkpoint[RECORD_KEY]["optimizer_sizes"]

    for name in ("new", "old"):
        aigc("fit", "--config", tiny, "--run", name)
    change(folder / "old" / LAST, as_before)
    done = [aigc("fit", "--resume", name, "--trainer.max_steps", 6) for name in ("new", "old")]
    assert [part.code for part in done] == [0, 0], done
    assert ["on how many processes" in part.out for part in done] == [False, True]
    assert differing(folder / "new" / LAST, folder / "old" / LAST) == []
    refused = aigc("fit", "--resume", "old", "--data.batch_size", 10, "--trainer.max_steps", 7)
    assert refused.code == 2  # it says by now how many


def test_the_first_row_after_a_resume_is_that_of_the_uninterrupted_run(aigc, write, folder):
    write("rows.yaml", {"trainer": {"max_steps": 8, "log_every_n_steps": 4}})
    assert aigc("fit", "--config", "rows.yaml", "--run", "whole").code == 0
    assert aigc("fit", "--config", "rows.yaml", "--run", "part", "--trainer.max_steps", 6).code == 0
    assert aigc("fit", "--resume", "part", "--trainer.max_steps", 8).code == 0
    whole, part = (list(csv.DictReader((folder / name / "metrics.csv").open())) for name in ("whole", "part"))
    losses = [{row["step"]: row["train/generator_loss"] for row in rows} for rows in (whole, part)]
    assert [step for step, loss in losses[1].items() if loss] == ["4", "6", "8"]
    assert {step: losses[1][step] for step in ("4", "8")} == {step: losses[0][step] for step in ("4", "8")}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda saved: saved.update(optimizer_states=[]), "optimizer_states has entries for [] parameters"),
        (lambda saved: saved["optimizer_states"][0]["state"].clear(), "optimizer_states has entries for [0, "),
        (lambda saved: saved["optimizer_states"].append(saved["optimizer_states"][0]), "optimizer_states has entries"),
        (lambda saved: saved.update(loops=[1]), "loops is a list"),
        (lambda saved: saved["loops"].update(fit_loop={}), "loops.fit_loop.state_dict is missing"),
        (lambda saved: saved["loops"]["fit_loop"].update(epoch_progress=3), "loops.fit_loop.epoch_progress is a int"),
        (lambda saved: saved["loops"]["fit_loop"]["epoch_progress"]["total"].update(ready=-1), "total.ready is -1"),
        (lambda saved: saved["callbacks"]["Checkpoints"].update(best_score="x"), "checkpoints.best_score is a str"),
        (lambda saved: saved["callbacks"].update(Progress=[3]), "progress is a list"),
        (lambda saved: saved["optimizer_states"][0].update(param_groups=[{}]), "the checkpoint: "),
        (lambda saved: saved["Digits"].update(samples_seen=None), "the state of the data.samples_seen is a NoneType"),
        (lambda saved: saved.update(aigc_unlogged=[{"train/x": 3}]), "unlogged losses.parts.train/x is a int"),
        (lambda saved: saved[RECORD_KEY].update(format=99), "has format 99, but aigc_lightning"),
        (lambda saved: saved.update({"pytorch-lightning_version": 3}), "pytorch-lightning_version is a int"),
        (lambda saved: saved["state_dict"].update(more=3), "state_dict.more is a int"),
    ],
)
def test_a_checkpoint_with_a_part_of_another_kind_is_refused(spoil, said, aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    change(folder / "runs/tiny/1" / LAST, spoil)
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and said in done.err and len(done.lines) <= 4 and "Traceback" not in done.err, done.err


def test_a_checkpoint_with_too_few_optimizers_is_refused_without_counts(aigc, tiny, folder):
    def spoil(saved):
        saved["optimizer_states"].pop()
        del saved[RECORD_KEY]["optimizer_sizes"]

    aigc("fit", "--config", tiny)
    change(folder / "runs/tiny/1" / LAST, spoil)
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and "has 1 optimizer_states but DCGAN creates 2" in done.err and len(done.lines) <= 4


def test_a_run_in_use_is_left_alone(aigc, tiny, folder):
    aigc("fit", "--config", tiny, "--run", "r")
    lock = claim(folder / "r")
    before = {path: path.read_bytes() for path in (folder / "r").rglob("*") if path.is_file()}
    for options in (["--resume", "r"], ["--run", "r", "--resume", "auto"], ["--run", "r", "--resume"]):
        done = aigc("fit", "--config", tiny, "--trainer.max_steps", 5, *options)
        assert done.code == 2 and "The run r is in use by process" in done.err and "kill" in done.err
    assert {path: path.read_bytes() for path in (folder / "r").rglob("*") if path.is_file()} == before
    other = aigc("fit", "--config", tiny, "--resume", folder / "r" / LAST, "--run", "s", "--trainer.max_steps", 5)
    assert other.code == 0, other.err  # reading is free
    lock.release()
    assert aigc("fit", "--resume", "r", "--trainer.max_steps", 5).code == 0


def test_what_a_killed_process_had_begun_to_write_is_removed(aigc, tiny, folder):
    aigc("fit", "--config", tiny, "--run", "r")
    stale = [folder / "r" / ".metrics.csv.99999999.tmp", folder / "r" / "checkpoints" / ".last.ckpt.1.0a1b2c3d.tmp"]
    living = folder / "r" / "evaluation" / ".scores.json.1.0a1b2c3d.tmp"  # process 1 is there
    living.parent.mkdir()
    for path in (*stale, living):
        path.write_bytes(b"half")
    assert aigc("fit", "--resume", "r", "--trainer.max_steps", 5).code == 0
    assert not any(path.exists() for path in stale) and living.exists()


def test_a_checkpoint_of_another_model_is_refused(aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    change(folder / "runs/tiny/1" / LAST, lambda checkpoint: checkpoint[RECORD_KEY].update(class_path="other.Model"))
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and "other.Model" in done.err and "DCGAN" in done.err


def test_weights_that_do_not_fit_are_refused(aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    change(folder / "runs/tiny/1" / LAST, lambda checkpoint: checkpoint["state_dict"].popitem())
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and "does not fit" in done.err and len(done.lines) <= 4 and "Traceback" not in done.err


@pytest.mark.parametrize("key", ["optimizer_states", "loops", "global_step"])
def test_a_checkpoint_without_the_state_of_training_is_refused(key, aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    change(folder / "runs/tiny/1" / LAST, lambda checkpoint: checkpoint.pop(key))
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and key in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_passed_over(share, whole, aigc, differing, folder):
    shutil.copytree(whole, "kept")
    data = (whole / LAST).read_bytes()
    (whole / LAST).write_bytes(data[: int(share * len(data))])
    for step in (6, 7, 8):  # the newest whole one is of step 5
        (whole / "checkpoints" / f"step_000000{step}.ckpt").write_bytes(b"")
    (whole / "checkpoints" / "best.ckpt").unlink()
    done = aigc("fit", "--config", "whole.yaml", "--resume")
    assert done.code == 0, done.err
    assert "Passed over" in done.out and "last.ckpt" in done.out
    assert differing(whole / LAST, folder / "kept" / LAST) == []


def overwrite(path, place, data):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_a_damaged_checkpoint_is_passed_over_by_name(whole, aigc, differing, folder):
    shutil.copytree(whole, "kept")
    last, steps = whole / LAST, [whole / "checkpoints" / f"step_000000{step}.ckpt" for step in (6, 7, 8)]
    overwrite(last, last.stat().st_size // 2, b"\xff" * 4096)
    for path in (whole / "checkpoints" / "best.ckpt", *steps[1:]):
        path.unlink()
    data, weights = steps[0].read_bytes(), torch.load(steps[0], weights_only=True)["state_dict"]
    place = data.index(next(weight for weight in weights.values() if weight.ndim == 1).numpy().tobytes())
    overwrite(steps[0], place, bytes([data[place] ^ 1]))
    done = aigc("fit", "--config", "whole.yaml", "--resume")
    assert done.code == 0, done.err
    # The first damage may have hit the name of an entry.
    for path, found in ((last, ""), (steps[0], "Bad CRC-32")):
        assert f"Passed over: {path.relative_to(folder)} is damaged: {found}" in done.out
    assert "Going on from runs/whole/1/checkpoints/step_0000005.ckpt, which is of step 5." in done.out
    assert differing(last, folder / "kept" / LAST) == []
    assert "Passed over" in (whole / "log.txt").read_text()


def test_a_flipped_bit_in_what_names_the_step_does_not_hide_a_checkpoint(whole, aigc, folder):
    data = (whole / LAST).read_bytes()
    overwrite(whole / LAST, data.index(b"global_step") + 14, b"\x01")
    notes: list[str] = []
    assert newest_loadable(whole, notes).name == "step_0000008.ckpt"
    assert notes[0].startswith(f"Passed over: {whole / LAST} is damaged")


def test_the_newest_checkpoint_is_the_one_of_the_latest_step(whole):
    (whole / LAST).unlink()
    for step in (7, 3, 1):  # files that were copied in any order
        (whole / "checkpoints" / f"step_000000{step}.ckpt").touch()
    shutil.copyfile(whole / "checkpoints" / "step_0000002.ckpt", whole / "checkpoints" / "best.ckpt")
    assert newest_loadable(whole, []).name == "step_0000008.ckpt"
    shutil.copyfile(whole / "checkpoints" / "step_0000008.ckpt", whole / LAST)
    assert newest_loadable(whole, []) == whole / LAST
    shutil.copyfile(whole / "checkpoints" / "step_0000002.ckpt", whole / LAST)
    assert newest_loadable(whole, []).name == "step_0000008.ckpt"  # saved after the last cadence of last.ckpt


def test_the_best_checkpoint_goes_on_exactly_too(whole, aigc, folder, differing):
    best = whole / "checkpoints" / "best.ckpt"
    step = torch.load(best, weights_only=True)["global_step"]
    assert step in (2, 4, 7)  # the interval begins anew in each epoch
    options = ["--resume", best, "--run", "b", "--trainer.max_steps", 9, "--checkpoints.monitor", "null"]
    assert aigc("fit", "--config", "whole.yaml", *options).code == 0
    for later in range(step + 1, 9):
        name = f"step_000000{later}.ckpt"
        assert differing(whole / "checkpoints" / name, folder / "b" / "checkpoints" / name) == []


def test_a_folder_with_broken_checkpoints_only(aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    (folder / "runs/tiny/1" / LAST).write_bytes(b"broken")
    done = aigc("fit", "--config", tiny, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and "can be read" in done.err and len(done.lines) <= 4


def test_a_truncated_checkpoint_that_was_named_is_refused(aigc, tiny, folder):
    aigc("fit", "--config", tiny)
    path = folder / "runs/tiny/1" / LAST
    path.write_bytes(path.read_bytes()[:-500])
    for argv in (["fit", "--resume", path], ["validate", "--checkpoint", path], ["sample", path]):
        done = aigc(*argv)
        assert done.code == 2 and "last.ckpt" in done.err and "Traceback" not in done.err
        assert len(done.lines) <= 4


def test_an_export_is_no_run(aigc, tiny):
    aigc("fit", "--config", tiny)
    assert aigc("export", "runs/tiny/1", "--out", "a.safetensors").code == 0
    done = aigc("fit", "--config", tiny, "--resume", "a.safetensors")
    assert done.code == 2 and "weights only" in done.err


def change(path, action):
    checkpoint = torch.load(path, weights_only=True)
    action(checkpoint)
    torch.save(checkpoint, path)


def test_data_within_data_may_lie_elsewhere_but_not_be_other_data():
    def section(size, root, std):
        noise = Namespace(class_path="a.Noise", init_args=Namespace(std=(0.0, std)))
        inner = Namespace(class_path="a.Folder", init_args=Namespace(size=size, root=root))
        return {"data": inner, "corruptions": [noise], "batch_size": 4}

    made = {
        "data": {"class_path": "a.Folder", "init_args": {"size": 8, "root": "here"}},
        "corruptions": [{"class_path": "a.Noise", "init_args": {"std": [0.0, 5.0]}}],
        "batch_size": 4,
    }
    assert differences_between("data", made, section(8, "there", 5.0), ("root",)) == []
    assert differences_between("data", made, section(16, "there", 5.0), ("root",)) == [
        "data.data.size is 8 there and 16 here"
    ]
    (found,) = differences_between("data", made, section(8, "there", 6.0), ("root",))
    assert found.startswith("data.corruptions is")


def test_a_moved_checkpoint_goes_on_alone(aigc, tiny, folder, differing):
    options = ("--data.size", 12, "--ema.decay", 0.9, "--seed_everything", 5)
    assert aigc("fit", "--config", tiny, *options, "--run", "whole", "--trainer.max_steps", 6).code == 0
    assert aigc("fit", "--config", tiny, *options, "--run", "first").code == 0
    (folder / "moved").mkdir()
    (folder / "first" / "checkpoints" / "last.ckpt").rename(folder / "moved" / "x.ckpt")
    done = aigc("fit", "--resume", "moved/x.ckpt", "--trainer.max_steps", 6, "--trainer.accelerator", "cpu")
    assert done.code == 0, done.err
    assert "no config.yaml beside it" in done.out and "DCGAN" in done.out and "Digits (size 12" in done.out
    assert "Run folder: runs/dcgan_digits/1" in done.out
    last = "checkpoints/last.ckpt"
    assert differing(folder / "whole" / last, folder / "runs/dcgan_digits/1" / last) == []
    done = aigc("validate", "--checkpoint", "moved/x.ckpt", "--trainer.accelerator", "cpu")
    assert done.code == 0 and "val/sliced_wasserstein" in done.out


def test_a_moved_checkpoint_that_does_not_know_its_data(aigc, tiny, folder):
    assert aigc("fit", "--config", tiny, "--run", "run").code == 0
    checkpoint = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)
    del checkpoint["aigc"]["data"]
    torch.save(checkpoint, folder / "x.ckpt")
    done = aigc("fit", "--resume", "x.ckpt", "--trainer.max_steps", 4)
    assert done.code == 2 and "which data" in done.err and "--data" in done.err
    done = aigc(
        "fit", "--resume=x.ckpt", "--data=digits", "--data.size=8", "--data.batch_size=300", "--trainer.max_steps=4"
    )
    assert done.code == 0, done.err


def test_a_strangers_checkpoint_names_no_class_of_its_own(aigc, tiny, folder):
    assert aigc("fit", "--config", tiny, "--run", "run").code == 0
    checkpoint = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)
    checkpoint["aigc"]["data"] = {"class_path": "subprocess.Popen", "config": {"args": ["touch", "marker"]}}
    torch.save(checkpoint, folder / "x.ckpt")
    done = aigc("fit", "--resume", "x.ckpt", "--trainer.max_steps", 4)
    assert done.code == 2 and "subprocess.Popen" in done.err and not (folder / "marker").exists()
