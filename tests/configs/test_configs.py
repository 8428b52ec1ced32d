"""Every config that comes with the package trains, on little."""

import pytest
import torch
import yaml
from PIL import Image

from aigc_lightning import plugins

CONFIGS = {name: path for name, owner, path in plugins.presets() if owner == plugins.BUILTIN}
SMALL = ["--data.batch_size", 4, "--trainer.max_steps", 2, "--trainer.accelerator", "cpu", "--grids.num", 2]
SMALL += ["--trainer.limit_val_batches", 1, "--trainer.val_check_interval", 1]


#: Data whose images come with a package, and data whose folder may hold any pictures.
FROM_WHEELS = ("digits", "photos", "degraded_images", "shapes")
FROM_FILES = ("image_folder", "paired_images", "unpaired_images")


def draw(root, options):
    """Write a few pictures where a config expects them."""
    for part in [options[name] for name in ("folder_a", "folder_b") if name in options] or ["."]:
        (root / part).mkdir(parents=True)
        for number in range(40):
            Image.effect_noise((70, 80), 50).convert("RGB").save(root / part / f"{number}.png")


def test_configs_are_found():
    assert "dcgan_digits" in CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_what_it_is_and_is_named_after_model_and_data(name):
    text = CONFIGS[name].read_text()
    assert text.startswith("# ") and len(text.splitlines()[0]) <= 125
    config = yaml.safe_load(text)
    stem = name.split("_")[0]
    assert {"cgan": "dcgan"}.get(stem, stem) == config["model"]["class_path"]  # cgan: a dcgan that is all about classes
    assert plugins.find("data", config["data"]["class_path"]).is_builtin


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_trains(name, aigc, folder):
    config = yaml.safe_load(CONFIGS[name].read_text())
    data = config["data"]["class_path"]
    options = list(SMALL)
    if data in FROM_FILES:
        draw(folder / config["data"]["init_args"]["root"], config["data"]["init_args"])
    elif data not in FROM_WHEELS:
        pytest.skip(f"{data} needs files")
    if name.endswith("_gpu"):
        options += ["--model.width", 8, "--data.size", 64, "--data.num_workers", 0]
    if "feature_network" in config["model"].get("init_args", {}):
        assert aigc("fit", "--config", "cnn_digits", *SMALL).code == 0
    done = aigc("fit", "--config", name, *options)
    assert done.code == 0, done.err
    checkpoint = torch.load(folder / "runs" / name / "1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2


@pytest.mark.slow
def test_the_default_config_learns_the_digits(aigc, folder):
    """Half a minute of training brings the samples near: a GAN that does not train stays above 0.5."""
    done = aigc("fit", "--config", "dcgan_digits", "--trainer.max_steps", 500, "--trainer.accelerator", "cpu")
    assert done.code == 0, done.err
    best = torch.load(folder / "runs" / "dcgan_digits" / "1" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["callbacks"]["Checkpoints"]["best_score"] < 0.25


@pytest.mark.slow
def test_the_classifier_config_reads_the_digits(aigc, folder):
    done = aigc("fit", "--config", "cnn_digits", "--trainer.accelerator", "cpu")
    assert done.code == 0, done.err
    best = torch.load(folder / "runs" / "cnn_digits" / "1" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["callbacks"]["Checkpoints"]["best_score"] >= 0.98


@pytest.mark.slow
def test_the_metric_config_brings_equal_digits_together(aigc, folder):
    done = aigc("fit", "--config", "metric_digits", "--trainer.accelerator", "cpu")
    assert done.code == 0, done.err
    best = torch.load(folder / "runs" / "metric_digits" / "1" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["callbacks"]["Checkpoints"]["best_score"] <= 0.02
