"""Private runs keep to their budget, resume exactly, and refuse what breaks the guarantee."""

import shutil

import pytest
import torch

from aigc_lightning.callbacks.private_training import PrivateTraining
from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.core.privacy.settings import Privacy
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.errors import UserError
from aigc_lightning.models import VAE
from aigc_lightning.testing import NoiseImages

PRIVATE = ["--privacy.epsilon=8", "--privacy.delta=1e-5", "--checkpoints.monitor=null", "--grids.num=4"]
DATA = ["--data=digits", "--data.size=8", "--data.batch_size=8", "--trainer.limit_val_batches=0"]
GAN = ["--model=dcgan", "--model.width=4", "--model.latent_size=4", "--model.discriminator_norm=group", *DATA]
GAN += ["--model.conditioning=projection", "--trainer.precision=32"]
CNN = ["--model=cnn", "--model.width=4", "--model.norm=group", *DATA, "--trainer.precision=32"]


def last(run):
    return read_checkpoint(run / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("model", [CNN, [*GAN, "--model.discriminator_steps=2", "--engine.augment=diff"]])
def test_a_resumed_run_is_the_uninterrupted_one_and_ends_with_its_budget(model, aigc, folder):
    options = [*model, *PRIVATE, "--trainer.max_steps=4"]
    done = aigc("fit", *options, "--run=whole", "--checkpoints.keep_every_n_steps=2")
    assert done.code == 0, done.err
    assert "epsilon 8/8" in done.out
    whole = last(folder / "whole")
    spent = whole["aigc"]["privacy_spent"]
    assert spent["steps"] == 4 and 7.99 < spent["epsilon"] <= 8
    assert whole["aigc"]["privacy"] == {"epsilon": 8.0, "delta": 1e-5, "clip": None}

    (folder / "part" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "privacy_secret"):
        shutil.copy(folder / "whole" / name, folder / "part" / name)
    shutil.copy(folder / "whole/checkpoints/step_0000002.ckpt", folder / "part/checkpoints/last.ckpt")
    assert read_checkpoint(folder / "part/checkpoints/last.ckpt")["aigc"]["privacy_spent"]["steps"] == 2
    done = aigc("fit", "--resume=part")
    assert done.code == 0, done.err
    resumed = last(folder / "part")
    assert resumed["aigc"]["privacy_spent"] == spent
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name

    refused = aigc("fit", "--resume=part", "--trainer.max_steps=5")
    assert refused.code == 2 and "budget is spent" in refused.err and "of 8 after 4 steps" in refused.err
    refused = aigc("fit", "--resume=part", "--trainer.max_steps=5", "--privacy.epsilon=9")
    assert refused.code == 2 and "privacy.epsilon is 8.0 there and 9.0 here" in refused.err
    assert (folder / "whole" / "privacy_secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.norm=batch"], ["batch norm", "--model.norm group"]),
        (["--engine.micro_batches=2"], ["engine.micro_batches"]),
        (["--data.balanced=true"], ["data.balanced"]),
        (["--checkpoints.monitor=val/loss"], ["checkpoints.monitor", "null"]),
        (["--trainer.overfit_batches=2"], ["overfit_batches"]),
        (["--privacy.delta=0.1"], ["privacy.delta", "1437"]),
        (["--data.batch_size=2000"], ["data.batch_size", "1437"]),
    ],
)
def test_what_breaks_the_guarantee_is_refused_by_name(options, said, aigc, folder):
    done = aigc("fit", *CNN, *PRIVATE, "--trainer.max_steps=1", *options)
    assert done.code == 2 and len(done.lines) <= 4 and all(text in done.err for text in said), done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model.discriminator_norm=batch"], ["batch norm", "discriminator", "--model.discriminator_norm group"]),
        (["--model.discriminator_norm=spectral"], ["spectral norm", "--model.discriminator_norm group"]),
        (["--model.r1_weight=1"], ["model.r1_weight", "--model.r1_weight 0"]),
        (["--model.loss=wasserstein"], ["model.gradient_penalty_weight", "--model.gradient_penalty_weight 0"]),
        (["--engine.augment=ada"], ["engine.augment ada", "--engine.augment diff"]),
    ],
)
def test_adversarial_models_that_show_real_images_elsewhere_are_refused_by_name(options, said, aigc, folder):
    done = aigc("fit", *GAN, *PRIVATE, "--trainer.max_steps=1", "--run=refused", *options)
    assert done.code == 2 and len(done.lines) <= 4 and all(text in done.err for text in said), done.err
    assert not list(folder.glob("refused/checkpoints/*"))


def test_adversarial_models_whose_generators_see_real_images_are_refused(aigc, folder):
    options = ["--model=pix2pix", "--model.width=4", "--data=shapes", "--data.task=paired", "--data.size=32"]
    done = aigc("fit", *options, *PRIVATE, "--trainer.max_steps=1")
    assert done.code == 2 and "Pix2Pix" in done.err and "such as vae or dcgan" in done.err, done.err


@pytest.mark.parametrize("model", ["vae", "autoencoder"])
def test_models_with_one_optimizer_train_privately(model, aigc, folder):
    done = aigc("fit", f"--model={model}", "--model.width=8", *DATA, *PRIVATE, "--trainer.max_steps=1", "--run=r")
    assert done.code == 0, done.err
    assert last(folder / "r")["aigc"]["privacy_spent"]["steps"] == 1


class Leaking(VAE):
    """Keeps the brightness of the images, before or in training."""

    brightness: torch.Tensor

    def __init__(self, spec, when):
        super().__init__(spec, latent_size=2, width=4)
        self.when = when
        self.register_buffer("brightness", torch.zeros(()))

    def setup_from_data(self, data):
        if self.when == "before":
            self.brightness.fill_(data.training_batch(2)["image"].mean())

    def training_step(self, batch, batch_idx):
        if self.when == "in training":
            self.brightness.add_(batch["image"].mean())
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("when", ["before", "in training", "never"])
def test_what_models_keep_of_images_is_refused(when):
    data = NoiseImages(1, 8, 8, num_images=6, batch_size=3)
    data.private_secret = 1
    private = PrivateTraining(Privacy(epsilon=8.0, delta=1e-3), 1)
    trainer = silent_trainer(max_steps=2, limit_val_batches=0, callbacks=[private])
    model = Leaking(data.spec, when)
    if when == "never":
        trainer.fit(model, data)
        assert private.steps == 2 and trainer.global_step == 2
        return
    with pytest.raises(UserError, match="brightness"):
        trainer.fit(model, data)
    assert private.steps == 0
