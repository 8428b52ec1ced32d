"""Networks that two processes share out: they compute what one does, and leave checkpoints like any other."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.testing import exactness

pytestmark = pytest.mark.slow
MODEL = ["--model=vae", "--model.width=4", "--model.latent_size=4", "--grids.num=4", "--trainer.accelerator=cpu"]
# 19 images in batches of 8: the last batch of an epoch has 3, of which one process has a single one.
MODEL += ["--data=aigc_lightning.testing.noise.NoiseImages", "--data.num_images=19", "--trainer.precision=32-true"]
MODEL += ["--data.channels=1", "--data.height=8", "--data.width=8", "--trainer.val_check_interval=2"]
MODEL += ["--trainer.gradient_clip_val=0.5", "--checkpoints.keep_every_n_steps=4", "--trainer.log_every_n_steps=1"]
ONE = [*MODEL, "--data.batch_size=8"]
TWO = [*MODEL, "--data.batch_size=4", "--trainer.devices=2", "--trainer.strategy=model_parallel"]
SAVING = ["--engine.micro_batches=3", "--engine.checkpoint_activations=true"]


def fit(folder: Path, run: str, *options: str) -> Path:
    command = [sys.executable, "-m", "aigc_lightning", "fit", f"--run={run}", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "view tensor" not in done.stderr
    return folder / run / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run in one process and one in two, of six steps each."""
    folder = tmp_path_factory.mktemp("sharded")
    fit(folder, "one", *ONE, "--trainer.max_steps=6")
    fit(folder, "two", *TWO, *SAVING, "--trainer.max_steps=6")
    return folder


def check_close(first: Path, second: Path) -> None:
    one, other = read_checkpoint(first), read_checkpoint(second)
    assert one["global_step"] == other["global_step"]
    assert list(one["state_dict"]) == list(other["state_dict"])
    for name, value in one["state_dict"].items():
        assert type(other["state_dict"][name]) is torch.Tensor
        torch.testing.assert_close(other["state_dict"][name], value, rtol=1e-3, atol=2e-5)
    for number, state in one["optimizer_states"][0]["state"].items():
        found = other["optimizer_states"][0]["state"][number]
        torch.testing.assert_close(found["exp_avg"], state["exp_avg"], rtol=1e-3, atol=1e-6)


def test_two_processes_equal_one(folder: Path) -> None:
    check_close(folder / "one/checkpoints/last.ckpt", folder / "two/checkpoints/last.ckpt")
    images = [LoadedModel(folder / run, "cpu").sample([0, 1]) for run in ("one", "two")]
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=1e-4)


def test_a_run_resumes_bit_for_bit_and_on_one_process(folder: Path) -> None:
    middle = str(folder / "two/checkpoints/step_0000004.ckpt")
    last = fit(folder, "rest", *TWO, *SAVING, "--trainer.max_steps=6", f"--resume={middle}")
    straight = read_checkpoint(folder / "two/checkpoints/last.ckpt")
    assert exactness.different_tensors(read_checkpoint(last), straight) == []
    alone = fit(folder, "alone", *ONE, "--engine.micro_batches=3", "--trainer.max_steps=6", f"--resume={middle}")
    check_close(alone, folder / "two/checkpoints/last.ckpt")
    # A run of one process goes on in two.
    middle = str(folder / "one/checkpoints/step_0000004.ckpt")
    check_close(fit(folder, "split", *TWO, "--trainer.max_steps=6", f"--resume={middle}"), alone)
