"""Losses, noise and sizes of pix2pix; the loop is tested with the engine."""

from functools import partial

import pytest
import torch
from torch.nn.functional import softplus

from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.pix2pix import Pix2Pix
from aigc_lightning.testing import NoiseImages
from aigc_lightning.testing.exactness import different_tensors, largest_difference, train

SPEC = ImageSpec(3, 16, 24, task="paired")


def made(spec=SPEC, **options):
    torch.manual_seed(0)
    model = Pix2Pix(spec, **{"width": 4, "discriminator_width": 4, "discriminator_layers": 2, **options})
    # Weights of 0.02 make all logits alike: larger ones, so that every term shows.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


def images(count=3, spec=SPEC):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(count, *spec.shape, generator=generator) * 2 - 1 for _ in range(3)]


def test_the_networks_of_the_paper_at_256_pixels():
    model = Pix2Pix(ImageSpec(3, 256, 256, task="paired"))
    counts = [sum(p.numel() for p in getattr(model, name).parameters()) for name in ("generator", "discriminator")]
    assert counts == [54_413_955, 2_768_705]
    assert model.generator.get_parameter("decoder.0.weight").std().item() == pytest.approx(0.02, rel=0.02)
    assert model.generator.get_parameter("norms.0.weight").mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_losses_by_hand(norm):
    model = made(norm=norm, l1_weight=7.0)
    source, target, fake = images()
    real_logits, fake_logits = (model.discriminator(torch.cat([source, image], dim=1)) for image in (target, fake))
    assert real_logits.std() > 1e-3
    torch.testing.assert_close(
        model.discriminator_loss(source, target, fake),
        (softplus(-real_logits).mean() + softplus(fake_logits).mean()) / 2,
    )
    torch.testing.assert_close(
        model.generator_loss(source, target, fake), softplus(-fake_logits).mean() + 7 * (fake - target).abs().mean()
    )
    recorded = model.pop_recorded()
    assert recorded["train/l1"] == pytest.approx((fake - target).abs().mean().item(), rel=1e-5)


def test_features_are_compared_where_there_is_a_weight():
    model = made(perceptual_weight=3.0, feature_network="somewhere")
    source, target, fake = images()
    plain = model.generator_loss(source, target, fake)
    model.features = lambda given: [given.mean(dim=(2, 3)), 2 * given]
    difference = (fake - target).mean(dim=(2, 3)).square().mean() + (2 * (fake - target)).square().mean()
    torch.testing.assert_close(model.generator_loss(source, target, fake), plain + 3 * difference / 2)
    with pytest.raises(UserError, match="feature_network"):
        made(perceptual_weight=1.0)


def test_no_gradient_of_the_discriminators_loss_reaches_the_generator():
    model = made()
    source, target, _ = images()
    model.discriminator_loss(source, target, model.generator(source)).backward()
    assert all(parameter.grad is None for parameter in model.generator.parameters())
    model.generator_loss(source, target, model.generator(source)).backward()
    assert all(parameter.grad is not None for parameter in model.generator.parameters())


def test_edits_have_the_papers_noise_where_seeds_are_given():
    model = made().train()
    source = images()[0]
    one = model.edit(source)
    assert torch.equal(one, model.edit(source)) and not one.requires_grad and model.generator.training
    variants = model.edit(source, seeds=[1, 2, 3])
    assert not torch.allclose(variants, one)
    same = source[:1].expand(2, -1, -1, -1)
    assert not torch.allclose(*model.edit(same, seeds=[1, 2]).unbind())
    torch.testing.assert_close(model.edit(source[1:2], seeds=[2]), variants[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 24), (5, 7), (40, 33)], ids=str)
def test_edits_of_any_size(size):
    edited = made().edit(torch.rand(1, 3, *size) * 2 - 1)
    assert edited.shape == (1, 3, *size) and edited.abs().max() <= 1


def test_edits_are_made_by_the_average():
    model = made()
    source = images()[0]
    own = model.edit(source)
    model.configure_model()
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert torch.equal(model.edit(source), own)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.0}], ids=str)
def test_the_step_is_noisy_with_dropout_alone(options):
    model = made(**options)
    calls = []
    model.uniform = lambda count, size: calls.append((count, size)) or torch.rand(count, size)
    model.update = lambda player, loss: calls.append((player, loss().isfinite().item()))
    source, target, _ = images()
    model.adversarial_step({"source": source, "target": target, "index": torch.arange(3)})
    drawn = [] if options else [(3, model.generator.noise_size(16, 24))]
    assert calls == [*drawn, ("discriminator", True), ("generator", True)]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"width": 0}, "width"), ({"dropout": 1.0}, "dropout"), ({"beta1": -0.1}, "beta1"), ({"lr": 0.0}, "lr"),
     ({"l1_weight": -1.0}, "l1_weight"), ({"discriminator_layers": 0}, "discriminator_layers"),
     ({"schedule_steps": 0}, "schedule_steps"), ({"discriminator_layers": 3}, "24 pixels"),
     ({"spec": ImageSpec(3, 64, 64)}, "pairs")],
    ids=str,
)  # fmt: skip
def test_what_is_refused(options, named):
    with pytest.raises(UserError, match=named):
        made(**options)


# ---- through the engine


def build(engine=Engine(), **options):  # noqa: B008 (frozen)
    return partial(make, engine, options)


def make(engine, options, batch_size):
    data = NoiseImages(1, 12, 16, task="paired", num_images=15, batch_size=batch_size)
    values = {"width": 4, "discriminator_width": 4, "discriminator_layers": 1, "schedule_steps": 6}
    model = Pix2Pix(data.spec, **{**values, **options})
    model.engine = engine
    return model, data


def largest(first, second):
    assert [number for number, _ in first.gradients] == [number for number, _ in second.gradients]
    return max(largest_difference(a, b) for (_, a), (_, b) in zip(first.gradients, second.gradients, strict=True))


@pytest.mark.parametrize("augment", ["none", "diff"])
def test_processes_and_micro_batches_change_nothing(augment, tmp_path):
    """Noise and augmentation included; the last batch of an epoch is ragged."""
    one = train(build(Engine(augment=augment)), 4, 4, tmp_path / "one", precision="64-true")
    two = train(build(Engine(augment=augment)), 4, 4, tmp_path / "two", processes=2, precision="64-true")
    parts = train(build(Engine(augment=augment, micro_batches=3)), 4, 4, tmp_path / "parts", precision="64-true")
    assert largest(two, one) < 1e-11 and largest(parts, one) < 1e-11


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = train(build(), 4, 5, tmp_path / "whole")
    first = train(build(), 4, 2, tmp_path / "first")
    second = train(build(), 4, 5, tmp_path / "second", resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) == []
    rates = [state["param_groups"][0]["lr"] for state in whole.saved["optimizer_states"]]
    assert rates == pytest.approx([2e-4 / 3] * 2)  # one of three steps down
