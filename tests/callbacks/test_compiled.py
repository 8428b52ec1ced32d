"""Networks as compiled code: which, by what, and that nothing else changes. Tests wait for no compiler of C++."""

import csv
import os
import shutil
from functools import partialmethod

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from aigc_lightning.callbacks.compiled import FOLDER_VARIABLE, Compiled, networks
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.cyclegan import CycleGAN
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.models.vae import VAE

SPEC = ImageSpec(1, 8, 8, ("a", "b"))


@pytest.fixture
def compiler(monkeypatch):
    """Replace the compiler by one that traces only; count the networks that are given to it."""
    given = []
    original = nn.Module.compile

    def trace(network):
        given.append(network)
        original(network, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", trace)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    torch.compiler.reset()
    return given


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: DCGAN(SPEC, width=4), ["discriminator", "generator"]),
        (lambda: VAE(SPEC, width=4), ["encoder", "decoder"]),
        (lambda: CNN(SPEC, width=4), ["backbone", "head"]),
        (
            lambda: CycleGAN(ImageSpec(1, 32, 32, (), "unpaired"), width=4, discriminator_width=4, num_blocks=1),
            ["discriminator_pair.A", "discriminator_pair.B", "generator_pair.AtoB", "generator_pair.BtoA"],
        ),
    ],
)
def test_the_networks_of_models(model, names):
    built = model()
    built.configure_model()  # averages are not trained
    assert list(networks(built)) == names


def test_a_network_that_is_not_trained_is_left_alone():
    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.trained, self.frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)

    assert list(networks(Model())) == ["trained"]


def test_a_run_with_compiled_networks_computes_the_same(aigc, tiny, folder, compiler, differing):
    for number, options in enumerate(([], ["--compile", "true"])):
        done = aigc("fit", "--config", tiny, "--run", str(number), *options)
        assert done.code == 0, done.err
    assert len(compiler) == 2 and all(network._compiled_call_impl is not None for network in compiler)
    paths = [folder / run / "checkpoints" / "last.ckpt" for run in "01"]
    assert differing(*paths) == []  # names and values
    rows = [list(csv.DictReader((folder / run / "metrics.csv").open())) for run in "01"]
    assert rows[0] == rows[1]
    # A run may go on without, and its config says what it was.
    assert "compile: true" in (folder / "1" / "config.yaml").read_text()
    done = aigc("fit", "--resume", "1", "--compile", "false", "--trainer.max_steps", 4)
    assert done.code == 0 and len(compiler) == 2, done.err


VAE_RUN = ["--model=vae", "--model.width=4", "--model.latent_size=4", "--data=digits", "--data.size=8"]
VAE_RUN += ["--data.batch_size=7", "--grids.num=4", "--trainer.max_steps=3", "--trainer.limit_val_batches=0"]


@pytest.mark.parametrize(
    "options", [[], ["--engine.micro_batches=3"], ["--engine.micro_batches=2", "--engine.checkpoint_activations=true"]]
)
def test_models_with_one_optimizer(options, aigc, folder, compiler, differing):
    for number, compiled in enumerate(("false", "true")):
        done = aigc("fit", *VAE_RUN, *options, "--compile", compiled, "--run", str(number))
        assert done.code == 0, done.err
    assert len(compiler) == 2 and all(network._compiled_call_impl is not None for network in compiler)
    assert differing(*(folder / run / "checkpoints" / "last.ckpt" for run in "01")) == []


def test_networks_in_a_list_and_no_network():
    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.networks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    assert list(networks(Model())) == ["networks.0", "networks.1"]
    with pytest.raises(UserError, match="no network in LightningModule"):
        Compiled().on_fit_start(pl.Trainer(logger=False, enable_checkpointing=False), pl.LightningModule())


@pytest.mark.slow
def test_augmented_images_reach_a_compiled_discriminator(aigc, tiny, folder, compiler, differing):
    augmented = ["--engine.augment", "diff"]
    for number, options in enumerate((augmented, [*augmented, "--compile", "true"])):
        done = aigc("fit", "--config", tiny, "--run", str(number), *options)
        assert done.code == 0, done.err
    assert len(compiler) == 2
    assert differing(*(folder / run / "checkpoints" / "last.ckpt" for run in "01")) == []


def test_no_compiler(aigc, tiny, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = aigc("fit", "--config", tiny, "--compile", "true")
    assert done.code == 2 and "no-such-compiler" in done.err and "--compile" in done.err and len(done.lines) <= 4
    assert aigc("fit", "--config", tiny).code == 0


def test_compiled_code_is_kept_with_the_users_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("AIGC_ASSETS", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setenv(FOLDER_VARIABLE, default_cache_dir())  # as torch leaves it
    Compiled()
    assert os.environ[FOLDER_VARIABLE] == str(tmp_path / "compiled")
    monkeypatch.setenv(FOLDER_VARIABLE, "/chosen")
    Compiled()
    assert os.environ[FOLDER_VARIABLE] == "/chosen"


def test_what_torch_cannot_compile_is_said(aigc, tiny, monkeypatch):
    error = torch._dynamo.exc.BackendCompilerFailed("inductor", RuntimeError("no header Python.h"), None)
    monkeypatch.setattr(nn.Module, "compile", partialmethod(_fails, error))
    done = aigc("fit", "--config", tiny, "--compile", "true")
    assert done.code == 2 and "could not compile" in done.err and "Leave --compile out" in done.err


def _fails(network, error):
    raise error


@pytest.mark.slow
def test_gradients_of_gradients_are_refused(aigc, tiny, monkeypatch):
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network: original(network, backend="aot_eager"))
    torch.compiler.reset()
    done = aigc("fit", "--config", tiny, "--compile", "true", "--model.r1_weight", 1.0)
    assert done.code == 2 and "gradients of gradients" in done.err and len(done.lines) <= 4
