"""Every command that is printed can be pasted, whatever the folders are called, and does what it says."""

import re
import shlex
import signal

import pytest
from PIL import Image

from aigc_lightning.callbacks.interruption import Interruption
from aigc_lightning.shell import command

FOLDER = "a run; 'of' mine"
QUICK = ("--trainer.max_steps=1", "--trainer.accelerator=cpu", "--grids.num=4", "--run=trained", "--data.batch_size=4")


@pytest.fixture
def paste(aigc):
    """Run the command that another one has printed behind some words."""

    def run(done, words, *more):
        assert done.code in (0, 130), done.err
        found = re.search(f"{words}(aigc .+)$", done.out + done.err, re.MULTILINE)
        assert found, done.out + done.err
        name, *argv = shlex.split(found[1])
        again = aigc(*argv, *more)
        assert name == "aigc" and again.code == 0, again.err
        return again

    return run


@pytest.mark.parametrize("parts", [("a", "b c"), ("it's",), ('"$HOME`x`',), ("a;b", "*", "~x", "ä"), ("",)])
def test_a_command_is_read_back_as_its_parts(parts):
    assert shlex.split(command(*parts)) == list(parts)


def test_a_path_is_no_option(tmp_path):
    from pathlib import Path

    assert command("aigc", "sample", Path("-x"), "-x") == "aigc sample ./-x -x"


def test_after_training_and_after_an_export(aigc, paste, tiny, folder):
    done = aigc("fit", "--config", tiny, "--run", FOLDER)
    paste(done, "Next: ")
    assert len(list((folder / "samples").glob("*.png"))) == 17
    done = aigc("export", FOLDER, "--out", f"{FOLDER}.safetensors")
    paste(done, "Next: ")


def test_nothing_is_suggested_where_there_is_nothing(aigc, tiny, folder):
    done = aigc("fit", "--config", tiny, "--trainer.max_steps", 0)
    assert done.code == 0 and "Next" not in done.out
    done = aigc("fit", "--model=cnn", "--model.width=4", "--data=digits", *QUICK)
    assert done.code == 0 and "Next" not in done.out
    assert "Next" not in aigc("export", "trained").out  # a classifier draws nothing


@pytest.mark.parametrize("options", [(), ("--trust-config",)])
def test_after_ctrl_c(options, aigc, paste, tiny, folder, monkeypatch):
    start = Interruption.on_train_start

    def interrupted(self, trainer, module):
        start(self, trainer, module)
        self._on_signal(signal.SIGINT, None)

    monkeypatch.setattr(Interruption, "on_train_start", interrupted)
    done = aigc("fit", "--config", tiny, "--run", FOLDER, *options)
    monkeypatch.setattr(Interruption, "on_train_start", start)
    assert done.code == 130 and ("--trust-config" in done.out) == bool(options)
    paste(done, "Go on with: ")


def test_data_of_folders(aigc, paste, folder):
    source = folder / "my pictures"
    source.mkdir()
    for number in range(20):
        Image.new("RGB", (20, 20), (number * 10, 0, 0)).save(source / f"{number}.png")
    for target, size in {"one 'p'": (8,), "another p": (10, 14)}.items():
        done = aigc("data", "prepare", source, target, "--size", *size, "--workers", 1)
        assert ("dcgan" in done.out) == (target == "one 'p'")  # which takes no 10x14
        paste(done, "Next: ", *QUICK)
    done = aigc("data", "shard", source, "some shards", "--samples", 5, "--val-share", 0.3)
    paste(done, "Next: ", *QUICK, "--model.width=4", "--data.size=8")


def test_scripts_of_jobs(aigc, folder):
    options = ("--config=dcgan_digits", "--gpus=0")
    done = aigc("job", "slurm", *options, "--time=1:00:00", "--out=my job.sh")
    assert "\nNext: sbatch 'my job.sh'\n" in done.out
    done = aigc("job", "torchrun", *options, "--nodes=2", "--head=a", "--out=it's.sh")
    assert shlex.split(done.out.splitlines()[-1]) == ["bash", "it's.sh", "1"]


def test_a_job_that_would_be_refused_is_refused_at_once(aigc, write):
    config = write("c.yaml", {"trainer": {"logger": False}})
    done = aigc("job", "slurm", "--config", config, "--time=1:00:00")
    assert done.code == 2 and "trainer.logger" in done.err


def test_a_new_plugin(aigc, folder):
    lines = aigc("plugins", "new", "glow", "--out", "my plugins").out.splitlines()
    assert [shlex.split(line) for line in lines[-3:]] == [
        ["pip", "install", "-e", "my plugins/aigc-glow"],
        ["pytest", "my plugins/aigc-glow"],
        ["aigc", "fit", "--config", "glow_digits"],
    ]


def test_the_log_begins_with_the_command(aigc, paste, tiny, folder):
    done = aigc("fit", "--config", tiny, "--run", FOLDER)
    log = (folder / FOLDER / "log.txt").read_text()
    (started,) = re.findall(r"Start: (aigc fit .*) \(aigc_lightning ", log)
    assert shlex.split(started) == ["aigc", "fit", "--config", "tiny.yaml", "--run", FOLDER]
    assert done.code == 0
