"""Augmented runs are as exact as any other: micro-batches, processes and interruptions change nothing."""

from functools import partial
from typing import Any, ClassVar

import lightning.pytorch as pl
import pytest
import torch

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.losses import hinge
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.testing.exactness import different_tensors, largest_difference, train

DIFF = Engine(augment="diff")
ADA = Engine(augment="ada", augment_target=0.05, augment_images=100)  # moves by about half every fourth step


class Noise(ImageDataModule):
    """Pictures of noise; an odd number of them."""

    def __init__(self, batch_size):
        super().__init__(batch_size)
        self.images = torch.randint(256, (29, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()

    spec = ImageSpec(1, 8, 8)

    def train_source(self):
        return ArraySource(self.images)

    val_source = train_source


def build(engine, model_class=DCGAN, **options):
    return partial(make, engine, model_class, options)


def make(engine, model_class, options, batch_size):
    data = Noise(batch_size)
    values = {"latent_size": 4, "width": 8, "generator_norm": "group", "discriminator_norm": "group"}
    torch.manual_seed(0)
    model = model_class(data.spec, **{**values, **options})
    model.engine = engine
    return model, data


def largest(first, second):
    assert [number for number, _ in first.gradients] == [number for number, _ in second.gradients]
    return max(largest_difference(a, b) for (_, a), (_, b) in zip(first.gradients, second.gradients, strict=True))


def probability(trace):
    return trace.saved["state_dict"]["augmentation.probability"].item()


@pytest.mark.parametrize(
    "options", [{}, {"r1_weight": 1.0}, {"loss": "hinge", "gradient_penalty_weight": 1.0}], ids=str
)
@pytest.mark.parametrize("engine", [DIFF, ADA], ids=["diff", "ada"])
def test_two_processes_and_micro_batches_equal_one(engine, options, tmp_path):
    make = build(engine, **options)
    one = train(make, 12, 10, tmp_path / "one", precision="64-true")
    two = train(make, 12, 10, tmp_path / "two", processes=2, precision="64-true")
    split = train(
        build(Engine(**{**vars(engine), "micro_batches": 3}), **options),
        12,
        10,
        tmp_path / "split",
        precision="64-true",
    )
    assert largest(two, one) < 1e-11 and largest(split, one) < 1e-11
    if engine is ADA:
        assert probability(two) == probability(one) == probability(split) > 0.1
        for name in ("signs", "judged", "seen"):
            key = f"augmentation.{name}"
            assert split.saved["state_dict"][key] == one.saved["state_dict"][key]


@pytest.mark.parametrize("stop", [2, 6], ids=["before the first change", "between two changes"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(stop, processes, tmp_path):
    whole = train(build(ADA), 12, 13, tmp_path / "whole", processes=processes)
    first = train(build(ADA), 12, stop, tmp_path / "first", processes=processes)
    second = train(build(ADA), 12, 13, tmp_path / "second", processes=processes, resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) == []
    assert probability(whole) > 0.1


@pytest.mark.parametrize("piece", ["probability", "signs", "seen"])
def test_a_resumed_run_without_a_piece_differs(piece, tmp_path):
    """The negative control of the test above."""
    whole = train(build(ADA), 12, 13, tmp_path / "whole")
    first = train(build(ADA), 12, 6, tmp_path / "first")
    saved = torch.load(first.checkpoint, weights_only=True)
    saved["state_dict"][f"augmentation.{piece}"].fill_(0 if piece != "signs" else -100)
    torch.save(saved, first.checkpoint)
    second = train(build(ADA), 12, 13, tmp_path / "second", resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) != []


class Watch(pl.Callback):
    """Keeps what the discriminator is shown, and which gradients the generator gets."""

    def __init__(self):
        self.shown, self.real = [], []

    def on_train_start(self, trainer, model):
        model.discriminator.layers.register_forward_pre_hook(lambda _, arguments: self.shown.append(arguments[0]))

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        self.real.append(batch["image"])


def test_the_discriminator_sees_varied_images_in_both_updates_and_the_generator_learns_through_them(tmp_path):
    watch, plain = Watch(), Watch()
    trace = train(build(DIFF), 12, 1, tmp_path / "diff", callbacks=[watch])
    train(build(Engine()), 12, 1, tmp_path / "plain", callbacks=[plain])
    plain_real, plain_fake = plain.shown[0].chunk(2)  # shown in one pass
    assert torch.equal(plain_real, watch.real[0]) and not torch.equal(watch.shown[0], watch.real[0])
    real, fake, fake_again = watch.shown
    assert not torch.equal(fake, plain_fake) and not torch.equal(fake, fake_again)
    assert real.shape == fake.shape == watch.real[0].shape
    (_, of_discriminator), (_, of_generator) = trace.gradients
    assert all(gradient.abs().sum() > 0 for gradient in (of_discriminator[0], *of_generator))


def test_outside_of_training_nothing_is_varied(tmp_path):
    models = []

    def make(batch_size):
        models.append(build(DIFF)(batch_size)[0])
        return models[0], Noise(batch_size)

    train(make, 12, 1, tmp_path)
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(models[0].discriminator(images), models[0].discriminator(images))


class Silent(DCGAN):
    """Does not say how real images are judged."""

    def observe_real(self, logits):
        pass


class Critics(AdversarialModel):
    """Its discriminator has a name of its own."""

    players = ("critic", "generator")
    discriminators = ("critic",)

    def __init__(self, spec, **options):
        super().__init__(spec)
        inner = DCGAN(spec, **options)
        self.critic, self.generator = inner.discriminator, inner.generator

    def adversarial_step(self, batch):
        fake = self.generator(self.noise(len(batch["image"]), 4))
        self.update("critic", lambda: hinge.discriminator(self.critic(batch["image"]), self.critic(fake.detach())))
        self.update("generator", lambda: hinge.generator(self.critic(fake)))

    def configure_optimizers(self):
        return [torch.optim.SGD(getattr(self, name).parameters(), 0.1) for name in self.players]


class Nameless(Critics):
    """Says of no network that it judges images."""

    discriminators: ClassVar[Any] = None


def test_models_that_cannot_be_augmented_are_told_so(tmp_path):
    with pytest.raises(UserError, match="observe_real"):
        train(build(ADA, Silent), 12, 1, tmp_path / "silent")
    with pytest.raises(UserError, match="augment diff"):  # the sign of such logits means nothing
        train(build(ADA, loss="wasserstein"), 12, 1, tmp_path / "wasserstein")
    with pytest.raises(UserError, match="Nameless has no discriminator"):
        train(build(DIFF, Nameless), 12, 1, tmp_path / "nameless")


def test_networks_with_other_names_are_augmented_by_name(tmp_path):
    plain = train(build(Engine(), Critics), 12, 1, tmp_path / "plain")
    varied = train(build(DIFF, Critics), 12, 1, tmp_path / "varied")
    assert largest(plain, varied) > 1e-3
