"""Results stay in their folder: a link that was laid into it is replaced or refused, never followed."""

import os
import shutil

import pytest
from PIL import Image

from aigc_lightning.core.io.atomic import found_inside, inside, no_follow, open_regular, private_folder, replacing
from aigc_lightning.errors import UserError


@pytest.fixture
def precious(folder):
    """Return a folder of the user's that holds a file, and a check that nothing in it has changed."""
    home = folder / "home"
    home.mkdir()
    (home / "file").write_text("mine")
    yield home
    assert [path.name for path in home.iterdir()] == ["file"] and (home / "file").read_text() == "mine"


# ---- the functions


def test_a_link_is_replaced_and_not_followed(precious, folder):
    (folder / "out").symlink_to(precious / "file")
    (folder / f".out.{os.getpid()}.tmp").symlink_to(precious / "file")
    with replacing(folder / "out") as temporary:
        temporary.write_text("new")
    assert (folder / "out").read_text() == "new" and not (folder / "out").is_symlink()


def test_folders_that_are_links(precious, folder):
    (folder / "out").mkdir()
    (folder / "out" / "sub").symlink_to(precious)
    (folder / "out" / "real").mkdir()
    (folder / "out" / "near").symlink_to("real")
    (folder / "chosen").symlink_to(folder / "out")
    for parts in (("sub", "a"), ("sub", "b", "c"), ("real", "..", "..", "a"), ("/etc", "a")):
        with pytest.raises(UserError, match="outside of"):
            inside(folder / "out", *parts)
    for parts in (("real", "a"), ("near", "a"), ("new", "deep", "a")):  # also where the whole folder is a link
        assert inside(folder / "chosen", *parts) == (folder / "chosen").joinpath(*parts)
    with pytest.raises(UserError, match="nothing is read there"):
        found_inside(folder / "out", "sub")


def test_files_that_are_opened_by_name(precious, folder):
    (folder / "link").symlink_to(precious / "file")
    (folder / "dangling").symlink_to(precious / "new")
    os.mkfifo(folder / "fifo")
    for name in ("link", "dangling", "fifo"):
        with pytest.raises(OSError, match=r"link|regular|device"), open(folder / name, "a", opener=no_follow):
            pass
    with open(folder / "file", "a", opener=no_follow) as file:
        file.write("x")
    with pytest.raises(OSError, match="regular"):
        open_regular(folder / "fifo")
    assert private_folder(folder / "own").stat().st_mode & 0o777 == 0o700


# ---- the commands


def test_a_run_folder_with_links_is_not_gone_on_with(precious, trained, folder, aigc):
    for name in ("checkpoints", "grids", "tensorboard"):
        shutil.copytree(trained, folder / name / "run")
        shutil.rmtree(folder / name / "run" / name, ignore_errors=True)
        (folder / name / "run" / name).symlink_to(precious)
        target = trained / "checkpoints" / "last.ckpt" if name == "checkpoints" else f"{name}/run"
        done = aigc("fit", "--resume", target, "--run", f"{name}/run", "--trainer.max_steps", 41,
                    "--config", f"{name}/run/config.yaml")  # fmt: skip
        if name != "checkpoints":  # another folder was taken, since this one holds something
            assert done.code == 2 and "outside of" in done.err, done.err


def test_files_of_a_run_that_are_links_are_left_alone(precious, trained, folder, aigc):
    run = folder / "run"
    shutil.copytree(trained, run)
    names = ("config.yaml", "environment.json", "losses.png", "timelapse.gif", "wandb_id.txt", "log_rank1.txt")
    for name in (*names, "grids/seeds.txt", "grids/step_000041.png", "checkpoints/best.ckpt"):
        config = (run / name).read_bytes() if (run / name).exists() else b""
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(precious / ("file" if name != "wandb_id.txt" else "new"))
        if name == "config.yaml":
            (folder / "config.yaml").write_bytes(config)
    options = ("--config", "config.yaml", "--resume", "run", "--trainer.max_steps", 41, "--run", "run")
    assert aigc("fit", *options).code == 0
    assert not (run / "config.yaml").is_symlink() and not (run / "losses.png").is_symlink()
    for name in ("log.txt", "metrics.csv"):
        (run / name).unlink()
        (run / name).symlink_to(precious / "file")
        done = aigc("fit", *options[:-3], 42, "--run", "run")
        assert (done.code == 2 and "link" in done.err) or "MetricsFile is disabled" in (run / "log.txt").read_text()
        (run / name).unlink()


def test_edits_samples_and_scripts(precious, trained, folder, aigc):
    (folder / "in" / "sub").mkdir(parents=True)
    Image.new("L", (8, 8)).save(folder / "in" / "sub" / "a.png")
    (folder / "out").mkdir()
    (folder / "out" / "sub").symlink_to(precious)
    done = aigc("edit", "--ops", "flip=h", "in", "--out", "out")
    assert done.code == 1 and "nothing is written there" in done.err
    for name in ("000000.png", "grid.png", "compare.html", "before_after.png", "a.png"):
        (folder / "out" / name).symlink_to(precious / "file")
    assert aigc("sample", trained, "--seeds", 0, "--grid", "--out", "out").code == 0
    assert aigc("edit", "--ops", "flip=h", "in/sub", "--out", "out").code == 0
    (folder / "job.sh").symlink_to(precious / "new")
    job = ("job", "slurm", "--gpus", 0, "--time", "1:00:00", "--config", "dcgan_digits", "--out", "job.sh")
    assert aigc(*job).code == 2
    (folder / "weights.safetensors").symlink_to(precious / "file")
    assert aigc("export", trained, "--out", "weights.safetensors").code == 0
    (folder / "scores").mkdir()
    (folder / "scores" / "scores.json").symlink_to(precious / "file")
    (folder / "scores" / "report.html").symlink_to(precious / "file")
    options = ("--extractor", trained, "--out", "scores", "--data.size", 8)
    aigc("evaluate", trained, *options)


def test_predictions(precious, trained, folder, aigc):
    shutil.copytree(trained, folder / "run")
    (folder / "run" / "predictions").symlink_to(precious)
    done = aigc("predict", "--checkpoint", "run")
    assert done.code == 2 and "outside of" in done.err


# ---- what is no regular file


@pytest.mark.timeout(100)
@pytest.mark.parametrize("where", ["file", "run"])
def test_no_command_waits_for_a_fifo(where, folder, aigc):
    (folder / "run" / "checkpoints").mkdir(parents=True)
    for name in (
        "run/checkpoints/last.ckpt",
        "run/config.yaml",
        "x.ckpt",
        "x.safetensors",
        "x.yaml",
        "x.png",
        "x.json",
    ):
        os.mkfifo(folder / name)
    target = "run" if where == "run" else "x.ckpt"
    for command in (
        ["sample", target],
        ["sample", "x.safetensors"],
        ["interpolate", target],
        ["export", target],
        ["evaluate", target],
        ["evaluate", "--fake", "run", "--real", "run"],
        ["validate", "--checkpoint", target],
        ["fit", "--config", "dcgan_digits", "--resume", target],
        ["fit", "--resume", target],
        ["fit", "--config", "x.yaml"],
        ["data", "stats", "x.yaml"],
        ["edit", target, "x.png"],
        ["edit", "--ops", "flip=h", "x.png"],
        ["compare", "x.json", "run"],
        ["assets", "fetch", "vgg16", "--path", "x.ckpt"],
    ):
        done = aigc(*command)
        assert done.code in (1, 2) and "Traceback" not in done.err, done.err
