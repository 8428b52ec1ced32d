"""`sr` keeps every promise of a plugin, enlarges images, and is trained in two stages."""

from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError, plugins
from aigc_lightning.core.resampling import enlarged
from aigc_lightning.inference.loaded_model import load
from aigc_lightning.inference.model_options import model_options
from aigc_lightning.testing import ModelConformance
from torch import nn

from aigc_restore.losses import relativistic
from aigc_restore.models.sr import SuperResolution

SMALL = ("model.network_options={width: 4, num_blocks: 1}", "data.data.size=32", "data.data.num_train=16")
SPEC = ImageSpec(3, 32, 32, task="restoration", scale=2)


class TestSuperResolution(ModelConformance):
    model = "sr"
    config = "sr_photos_x2"
    settings = SMALL


@pytest.mark.slow
class TestAdversarialSuperResolution(ModelConformance):
    model = "sr"
    config = "sr_photos_x4"
    settings = (
        *SMALL,
        "model.network=rrdb",
        "model.network_options={width: 4, num_blocks: 1, growth: 2}",
        "model.adversarial_weight=0.1",
        "model.adversarial_start=1",
        "model.discriminator_width=8",
    )


def made(spec: ImageSpec = SPEC, **options: Any) -> SuperResolution:
    model = SuperResolution(spec, **{"network_options": {"width": 4, "num_blocks": 1}, **options})
    model.configure_model()
    return model.eval()


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_training_starts_as_bicubic_enlargement(scale):
    model = made(ImageSpec(3, 24, 24, task="restoration", scale=scale))
    images = torch.rand(2, 3, 7, 5) * 2 - 1
    torch.testing.assert_close(model.edit(images), enlarged(images, scale).clamp(-1, 1))
    assert model.scale == scale


def test_without_residual_the_network_makes_the_image():
    images = torch.rand(1, 3, 6, 6) * 2 - 1
    assert (made(residual=False).edit(images) - enlarged(images, 2).clamp(-1, 1)).abs().max() > 0.1


def test_the_self_ensemble_turns_with_the_image():
    model = made(residual=False)
    images = torch.rand(2, 3, 6, 9) * 2 - 1
    both = model.edit(images, ensemble=True)
    assert both.shape == (2, 3, 12, 18)
    assert (both - model.edit(images)).abs().max() > 1e-3
    for change in (lambda x: x.flip(-1), lambda x: x.rot90(1, (-2, -1)), lambda x: x.transpose(-2, -1)):
        torch.testing.assert_close(model.edit(change(images), ensemble=True), change(both), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        ({}, ImageSpec(3, 32, 32), "is for generation"),
        ({}, ImageSpec(3, 30, 30, task="restoration", scale=5), "is of scale 5"),
        ({}, ImageSpec(4, 32, 32, task="restoration", scale=2), "4"),
        ({"network": "vdsr"}, SPEC, "no network 'vdsr'"),
        ({"network_options": {"depth": 3}}, SPEC, "cannot be built"),
        ({"network_options": {"width": 0}}, SPEC, r"network_options\.width is 0"),
        ({"network_options": {"num_blocks": 10**9}}, SPEC, r"network_options\.num_blocks is 1000000000"),
        ({"network": "swinir", "network_options": {"width": 10, "num_heads": [3], "depths": [1]}}, SPEC, "heads"),
        ({"network": "swinir", "network_options": {"side": 7}}, SPEC, "even"),
        ({"perceptual_weight": 1.0}, SPEC, "needs a network that provides the features"),
        ({"adversarial_weight": -1.0}, SPEC, "adversarial_weight is -1"),
        ({"adversarial_weight": 1.0, "discriminator": "unet"}, ImageSpec(3, 36, 36, task="restoration", scale=2), "8"),
    ],
)
def test_what_does_not_fit_is_refused(options, spec, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        SuperResolution(spec, **options)


def test_the_relativistic_loss_compares_with_the_other_images_average():
    real, fake = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    softplus = nn.functional.softplus
    real_by_hand, fake_by_hand = real - 0.5, fake - 2
    expected = softplus(-real_by_hand).mean() + softplus(fake_by_hand).mean()
    torch.testing.assert_close(relativistic.discriminator(real, fake), expected)
    expected = softplus(real_by_hand).mean() + softplus(-fake_by_hand).mean()
    torch.testing.assert_close(relativistic.generator(real, fake), expected)
    fake.requires_grad_()
    relativistic.generator(real, fake).backward()
    assert (fake.grad < 0).all()  # the generator's images should look more real


def test_the_relativistic_loss_of_a_batch_is_the_mean_of_its_images():
    real, fake = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    parts = [relativistic.discriminator(real[i : i + 1], fake[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(relativistic.discriminator(real, fake), torch.stack(parts).mean())


def test_the_discriminator_sees_images_moved_against_its_grid(monkeypatch):
    model = made(adversarial_weight=1.0, discriminator_width=4)
    monkeypatch.setattr(SuperResolution, "step", 0)
    monkeypatch.setattr(model, "uniform", lambda count, numbers: torch.full((count, numbers), 0.5))
    monkeypatch.setattr(model, "record", lambda name, value: None)
    seen: list[torch.Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda network, images: seen.append(images[0]))
    small, target = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
    for loss in (model.generator_loss, model.discriminator_loss):
        loss(small, target)
        real, fake = seen[-2:]
        torch.testing.assert_close(real, target[..., 4:28, 4:28])
        torch.testing.assert_close(fake, model.generator(small)[..., 4:28, 4:28])


def _with_first_weights(**options: Any) -> SuperResolution:
    """Return a model whose first and trained weights are different random numbers."""
    model = made(start_from="a run", residual=False, **options)
    generator = torch.Generator().manual_seed(0)
    for network in (model.first_generator, model.averaged("generator")):
        for weight in network.parameters():
            weight.data.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def test_sharpness_takes_weights_between_the_first_and_the_trained_ones():
    model, images = _with_first_weights(sharpness=0.25), torch.rand(1, 3, 6, 5) * 2 - 1
    first, trained = model.first_generator, model.averaged("generator")
    with torch.no_grad():
        for network, sharpness in ((first, 0), (trained, 4)):
            torch.testing.assert_close(model.edit(images, sharpness=sharpness), network(images).clamp(-1, 1))
        found = model.edit(images)
        for weight, begun in zip(trained.parameters(), first.parameters(), strict=True):
            weight.copy_(0.25 * weight + 0.75 * begun)
        torch.testing.assert_close(found, trained(images).clamp(-1, 1))


def test_an_export_has_the_weights_of_the_sharpness_alone():
    model, images = _with_first_weights(sharpness=0.25), torch.rand(2, 3, 8, 6) * 2 - 1
    graph = model.export_graphs()["edit"]
    torch.testing.assert_close(graph.call(images), model.edit(images))
    torch.testing.assert_close(graph.owner.averaged("generator")(images).clamp(-1, 1), graph.call(images))


@pytest.mark.parametrize("sharpness", [-0.1, 1.5, float("nan")])
def test_a_sharpness_out_of_range_is_refused(sharpness):
    with pytest.raises(UserError, match=r"model\.sharpness is"):
        made(start_from="a run", sharpness=sharpness)
    with pytest.raises(UserError, match="out of range"):
        _with_first_weights().edit(torch.zeros(1, 3, 4, 4), sharpness=sharpness)


def test_gradients_reach_the_trained_weights_at_any_sharpness():
    model = _with_first_weights(sharpness=0.25)
    with model.differentiable():
        model.edit(torch.rand(1, 3, 6, 5)).square().mean().backward()
    assert all(weight.grad is not None for weight in model.generator.parameters())
    assert all(weight.grad is None for weight in model.first_generator.parameters())


def test_sharpness_is_an_option_of_the_command():
    model = _with_first_weights(sharpness=0.5)
    assert model_options(model, "edit", {"sharpness": "1.5"}) == {"sharpness": 1.5}


def test_sharpness_needs_a_first_run():
    with pytest.raises(UserError, match="start_from"):
        made(sharpness=0.5)
    with pytest.raises(UserError, match="weights of one sharpness"):
        made().edit(torch.zeros(1, 3, 4, 4), sharpness=0.5)


def test_a_run_begins_with_the_averaged_weights_of_another(tmp_path):
    preset = ["--config", "sr_photos_x2", *(f"--{setting}" for setting in SMALL), "--trainer.max_steps", "1"]
    preset += ["--model.schedule_steps", "null", "--trainer.limit_val_batches", "0", "--data.batch_size", "2"]
    fit = plugins.find("command", "fit").load()
    fit([*preset, "--run", str(tmp_path / "pixels")])
    fit([*preset, "--model.lr", "1e-12", "--model.start_from", str(tmp_path / "pixels"), "--run", str(tmp_path / "b")])
    first, second = (load(tmp_path / name).model.averaged("generator").state_dict() for name in ("pixels", "b"))
    assert first["network.last.weight"].abs().max() > 0
    torch.testing.assert_close(second, first, atol=1e-9, rtol=0)
    second, images = load(tmp_path / "b").model, torch.rand(1, 3, 6, 5) * 2 - 1
    torch.testing.assert_close(second.edit(images, sharpness=0), load(tmp_path / "pixels").model.edit(images))
    with pytest.raises(UserError, match="differs from this one"):
        other = ["--model.network_options", "{width: 4, num_blocks: 2}", "--model.start_from", str(tmp_path / "pixels")]
        fit([*preset, *other, "--run", str(tmp_path / "c")])
