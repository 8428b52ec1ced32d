"""Runs, checkpoints and exports that version 0.1.0 wrote before its modules moved: they are used and go on as before.

`old_runs/` was written by the code of that time: 4 steps of tiny models on digits, batches of 8, 32-bit precision.
`after_8_steps.json` has the norm and the sum of each tensor of the runs after 4 steps more.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

OLD = Path(__file__).with_name("old_runs")


@pytest.fixture
def old(folder):
    shutil.copytree(OLD, folder / "old")
    return folder / "old"


@pytest.mark.parametrize("name", ["cgan", "vae"])
def test_an_old_run_goes_on(name, old, aigc):
    done = aigc("fit", "--resume", old / name, "--trainer.max_steps", 8)
    assert done.code == 0, done.err
    checkpoint = torch.load(old / name / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 8
    for key, (norm, total) in json.loads((OLD / "after_8_steps.json").read_text())[name].items():
        value = checkpoint["state_dict"][key].double()
        # Processors round differently.
        assert value.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-4), key
        assert value.sum().item() == pytest.approx(total, rel=1e-3, abs=1e-3), key
    before, after = ((folder / name / "metrics.csv").read_text() for folder in (OLD, old))
    assert after.startswith(before) and len(after) > len(before)


@pytest.mark.parametrize("target", ["cgan", "cgan.safetensors"])
def test_old_seeds_give_their_pictures(target, old, folder, aigc):
    assert aigc("sample", old / target, "--seeds", "0-3", "--grid", "--out", "samples").code == 0
    made, kept = (
        np.asarray(Image.open(path), int) for path in (folder / "samples" / "grid.png", OLD / "cgan_samples.png")
    )
    assert made.shape == kept.shape and abs(made - kept).max() <= 2


def test_an_old_run_is_scored(old, aigc):
    done = aigc("validate", "--checkpoint", old / "vae")
    assert done.code == 0 and "val/" in done.out, done.err


def test_an_old_config_trains(old, folder, aigc):
    assert aigc("fit", "--config", old / "cgan" / "config.yaml", "--trainer.max_steps", 1, "--run", "new").code == 0
    assert (folder / "new" / "checkpoints" / "last.ckpt").exists()
