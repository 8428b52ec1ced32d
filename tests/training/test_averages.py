"""The options of moving averages in `aigc fit`."""

import shutil
from pathlib import Path

import pytest
import torch

OLD = Path(__file__).parents[1] / "old_runs"


@pytest.mark.parametrize(
    "options",
    [["--ema.decay", "0.9"], ["--engine.ema_decay=0.9"], ["--ema.decay", "0.999"], ["--ema.half_life_images", "99"]],
    ids=str,
)
def test_a_model_without_average_refuses_the_options(options, aigc):
    done = aigc("fit", "--config", "vae_digits", *options, "--run", "new")
    assert done.code == 2 and "VAE keeps no moving average" in done.err and len(done.lines) <= 4


def test_a_config_with_them_is_refused_and_a_former_run_goes_on(folder, aigc):
    shutil.copytree(OLD / "vae", folder / "vae")
    config = folder / "vae" / "config.yaml"
    config.write_text(config.read_text().replace("ema_decay: 0.999", "ema_decay: 0.5"))
    done = aigc("fit", "--config", config, "--trainer.max_steps", 5, "--run", "new")
    assert done.code == 2 and "VAE keeps no moving average" in done.err
    assert aigc("fit", "--resume", folder / "vae", "--trainer.max_steps", 5).code == 0


def test_the_options_act_on_training_only(folder, aigc, tiny):
    assert aigc("fit", "--config", tiny, "--run", "run", "--ema.half_life_images", 1000).code == 0
    done = aigc("validate", "--checkpoint", "run", "--ema.half_life_images", "5")
    assert done.code == 2 and "--ema.half_life_images acts on training only" in done.err
    assert aigc("validate", "--checkpoint", "run").code == 0
    # A config with other settings than the run's: the checkpoint has its averages.
    config = folder / "run" / "config.yaml"
    config.write_text(config.read_text().replace("half_life_images: 1000.0", "half_life_images: null\n  decay: 0.0"))
    assert "decay: 0.0" in config.read_text()
    config.write_text(config.read_text().replace("  decay: null\n", ""))
    assert aigc("validate", "--checkpoint", "run").code == 0
    record = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)["aigc"]
    assert record["ema"]["half_life_images"] == 1000 and record["ema"]["decay"] is None


def test_both_names_with_different_values_are_refused(folder, aigc, tiny):
    (folder / "both.yaml").write_text("engine: {ema_decay: 0.5}\nema: {decay: 0.6}\n")
    done = aigc("fit", "--config", tiny, "--config", "both.yaml")
    assert done.code == 2 and "engine.ema_decay is 0.5 and ema.decay is 0.6" in done.err
    (folder / "both.yaml").write_text("engine: {ema_decay: 0.5}\nema: {decay: 0.5}\n")
    shown = aigc("fit", "--config", tiny, "--config", "both.yaml", "--ema.decay", "0.7", "--print_config").out
    assert "decay: 0.7" in shown and "ema_decay" not in shown
