"""Of an adversarial step, exactly the part that sees real images is private."""

import pytest
import torch

from aigc_lightning.callbacks import private_training
from aigc_lightning.callbacks.private_training import PrivateTraining
from aigc_lightning.core.privacy.adversarial import Absent, public_batch
from aigc_lightning.core.privacy.gradients import clipped_sum, trained
from aigc_lightning.core.privacy.settings import Privacy
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models import DCGAN
from aigc_lightning.testing import NoiseImages

NUM = 6


def fitted(model_class=DCGAN, *, clip=None, secret=1, batch_size=NUM, data_class=NoiseImages, **options):
    """Return a model after three steps: private ones, of all images in each batch, where there is a clip."""
    torch.manual_seed(0)
    data = data_class(1, 8, 8, num_images=NUM, batch_size=batch_size)
    callbacks = []
    if clip is not None:
        data.private_secret = secret
        callbacks = [PrivateTraining(Privacy(epsilon=8.0, delta=1e-3, clip=clip), secret)]
    model = model_class(data.spec, **{"width": 4, "latent_size": 3, "discriminator_norm": "group", **options})
    silent_trainer(max_steps=3, limit_val_batches=0, precision="64-true", callbacks=callbacks).fit(model, data)
    return model


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge", "least_squares"])
def test_without_noise_and_clipping_a_private_step_is_an_ordinary_one(loss, monkeypatch):
    monkeypatch.setattr(private_training, "add_noise", lambda *_: None)
    ordinary, private = fitted(loss=loss), fitted(loss=loss, clip=1e9)
    for (name, one), other in zip(ordinary.state_dict().items(), private.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9, msg=name)


class Probe(DCGAN):
    """Compares the gradients of the part that sees real images."""

    def adversarial_step(self, batch):
        real, own = batch["image"], trained(self.discriminator)
        self.plain = torch.autograd.grad(self.real_loss(real), own)
        self.sums, _ = clipped_sum(self, batch, 1e9, own, lambda sample: self.real_loss(sample["image"]))
        self.short, _ = clipped_sum(self, batch, 1e-3, own, lambda sample: self.real_loss(sample["image"]))
        super().adversarial_step(batch)


def test_the_mean_of_the_samples_gradients_is_the_ordinary_gradient_of_the_real_part():
    probe = fitted(Probe)
    for one, other in zip(probe.sums, probe.plain, strict=True):
        torch.testing.assert_close(one / NUM, other, rtol=1e-7, atol=1e-9)
    length = torch.stack([gradient.norm() for gradient in probe.short]).norm().item()
    assert 0 < length <= NUM * 1e-3 * (1 + 1e-6)


class Others(NoiseImages):
    """Other images."""

    def train_source(self):
        return self.val_source()


def test_real_images_that_count_for_nothing_leave_no_trace():
    data = (NoiseImages, Others)
    one, other = (fitted(clip=1e-30, batch_size=3, data_class=kind).state_dict() for kind in data)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class Peeking(DCGAN):
    """Looks at real images where it should not."""

    def generator_loss(self, fake, labels=None):
        return super().generator_loss(fake, labels) + (self.batch["image"] - fake).square().mean()

    def adversarial_step(self, batch):
        self.batch = batch
        super().adversarial_step(batch)


def test_a_model_that_looks_at_real_images_elsewhere_is_stopped():
    fitted(Peeking)
    with pytest.raises(UserError, match="elsewhere than in its real_loss"):
        fitted(Peeking, clip=1.0)


def test_absent_images_have_a_form_and_classes_drawn_evenly():
    batch = public_batch(ImageSpec(3, 8, 4, class_names=("a", "b")), 1000, 5, torch.device("cpu"))
    images = batch["image"]
    assert isinstance(images, Absent) and len(images) == 1000 and images.shape == (1000, 3, 8, 4) and images.ndim == 4
    assert abs(batch["label"].float().mean().item() - 0.5) < 0.06 and batch["index"].tolist() == list(range(1000))
    with pytest.raises(UserError, match=r"privacy\.epsilon"):
        images.mean()
