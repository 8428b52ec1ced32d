"""The options of moving averages in `aigc fit`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.testing.average_checks import keeps_its_averages
from aigc_lightning.testing.cases import ModelCase
from aigc_lightning.testing.checks import CheckFailedError, NotApplicableError
from aigc_lightning.testing.training_checks import resumes_exactly

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


MODEL = '''
import torch
from torch import nn
from aigc_lightning import ImageModel
from aigc_lightning.core.image_model import seeded_normal


class Copier(ImageModel):
    """Learns to copy images, and decodes noise."""

    averaged_networks = ("network",)

    def __init__(self, spec, width: int = 4):
        super().__init__(spec)
        self.network = nn.Sequential(nn.Conv2d(spec.channels, width, 3, padding=1), nn.Conv2d(width, spec.channels, 1))

    def sample(self, seeds):
        """Return one image per seed."""
        with self.inference():
            return self.averaged("network")(seeded_normal(seeds, *self.spec.shape).to(self.device)).clamp(-1, 1)

    def training_step(self, batch, batch_idx):
        images = batch["image"]
        return (self.network(images + self.noise(len(images), *self.spec.shape)) - images).square().mean() * self.share

    def validation_step(self, batch, batch_idx):
        images = batch["image"]
        self.log_held_out("error", (self.averaged("network")(images) - images).square().mean((1, 2, 3)))

    def configure_optimizers(self):
        return torch.optim.Adam(self.network.parameters(), lr=0.01)


class Forgetful(Copier):
    """Does not call its base class."""

    def on_train_start(self):
        pass
'''


@pytest.fixture
def copier(site, write):
    """Return a config of an automatic model of a plugin that keeps an average."""
    points = {"models": {"copier": "aigc_copier:Copier", "forgetful": "aigc_copier:Forgetful"}}
    site.install("aigc-copier", points, {"aigc_copier.py": MODEL})
    path = write("copier.yaml", {"ema": {"decay": 0.6}, "checkpoints": {"keep_every_n_steps": 1}})
    config = yaml.safe_load(path.read_text()) | {"model": "copier"}
    path.write_text(yaml.safe_dump(config))
    return path


def test_an_automatic_model_with_an_average_is_trained_and_used(copier, folder, aigc, differing, judge):
    assert aigc("fit", "--config", copier, "--run", "whole", "--trainer.max_steps", 5).code == 0
    middle = folder / "whole" / "checkpoints" / "step_0000002.ckpt"
    done = aigc("fit", "--config", copier, "--run", "rest", "--trainer.max_steps", 5, "--resume", middle)
    assert done.code == 0, done.err
    last = "checkpoints/last.ckpt"
    assert differing(folder / "whole" / last, folder / "rest" / last) == []
    record = torch.load(folder / "whole" / last, weights_only=True)["aigc"]
    assert record["ema"]["decay"] == 0.6
    done = aigc("validate", "--checkpoint", "whole")
    assert done.code == 0 and "val/error" in done.out
    assert aigc("sample", "whole", "--seeds", "0-3", "--out", "samples").code == 0
    model: Any = load_model(folder / "whole")
    averaged = model.sample([3])
    model.averages = torch.nn.ModuleDict()
    assert not torch.equal(averaged, model.sample([3]))
    done = aigc("evaluate", "whole", "--extractor", judge, "--metrics", "frechet_distance", "--num", 99, "--out", "e")
    assert done.code == 0, done.err
    assert json.loads((folder / "e" / "scores.json").read_text())["model"]["averaged_weights"] is True


def test_the_kit_checks_the_averages(copier, folder):
    case = ModelCase("model", "copier", folder / "kit", config=str(copier))
    keeps_its_averages(case)
    resumes_exactly(case)
    forgetful = ModelCase("model", "forgetful", folder / "other", ("model=forgetful",), config=str(copier))
    with pytest.raises(CheckFailedError, match="No average of network is kept"):
        keeps_its_averages(forgetful)
    with pytest.raises(NotApplicableError, match="averaged_networks"):
        keeps_its_averages(ModelCase("model", "vae", folder / "vae"))
