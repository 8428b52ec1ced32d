"""Losses, penalties and sizes of the DCGAN; the loop is tested with the engine."""

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.dcgan import DCGAN

SPEC = ImageSpec(1, 8, 8, tuple("abc"))
SIZES = [(8, 8), (12, 12), (28, 28), (32, 32), (36, 20), (20, 36), (64, 64), (8, 64), (100, 100)]


class Mixing(DCGAN):
    """With the same mixes of real and fake in every step."""

    def uniform(self, count, *shape):
        return torch.rand(64, *shape, generator=torch.Generator().manual_seed(4))[:count]


def made(spec=SPEC, **options):
    torch.manual_seed(0)
    options = {"latent_size": 5, "width": 8, "generator_norm": "group", "discriminator_norm": "group", **options}
    model = Mixing(spec, **options)
    model.trainer = None
    # Weights of 0.02 make all logits alike: larger ones, so that every term shows.
    with torch.no_grad():
        for parameter in model.discriminator.parameters():
            parameter.mul_(5)
    return model


def images(count=6, shape=(1, 8, 8)):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(count, *shape, generator=generator) * 2 - 1 for _ in range(2))


BY_HAND = {
    "nonsaturating": (lambda r, f: softplus(-r).mean() + softplus(f).mean(), lambda f: softplus(-f).mean()),
    "hinge": (lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(), lambda f: -f.mean()),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda f: ((f - 1) ** 2).mean() / 2,
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda f: -f.mean()),
}


@pytest.mark.parametrize("loss", BY_HAND)
def test_losses_by_name(loss):
    model = made(loss=loss, gradient_penalty_weight=0.0)
    real, fake = images()
    real_logits, fake_logits = model.discriminator(real), model.discriminator(fake)
    for_d, for_g = BY_HAND[loss]
    torch.testing.assert_close(model.discriminator_loss(real, fake), for_d(real_logits, fake_logits))
    torch.testing.assert_close(model.generator_loss(fake), for_g(fake_logits))


def test_one_pass_over_real_and_fake_images_gives_the_gradients_of_two():
    """Two are needed where a norm mixes the images of a batch, with augmentation and for privacy."""
    model = made(loss="hinge", discriminator_norm="group")
    real, fake = images()
    shown = []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    together = gradients(model, model.discriminator_loss(real, fake))
    assert shown == [12]
    with model.private_part(lambda: model.real_loss(real)):
        apart = gradients(model, model.discriminator_loss(real, fake))
    assert shown == [12, 6, 6]
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-6)


class Smooth(DCGAN):
    """Judges real images in a way of its own."""

    def real_loss(self, real, labels=None):
        return (self.discriminator(real) - 0.9).square().mean()


def test_a_loss_of_ones_own_on_real_images_is_used():
    model = Smooth(SPEC, width=8, loss="hinge", discriminator_norm="none")
    real, fake = images()
    expected = (model.discriminator(real) - 0.9).square().mean() + (1 + model.discriminator(fake)).clamp(min=0).mean()
    torch.testing.assert_close(model.discriminator_loss(real, fake), expected)


def slopes(model, points):
    """Return each image's gradient, one image at a time."""
    rows = []
    for point in points:
        point = point[None].detach().requires_grad_()
        (slope,) = torch.autograd.grad(model.discriminator(point).sum(), point, create_graph=True)
        rows.append(slope.flatten())
    return torch.stack(rows)


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.discriminator.parameters()), retain_graph=True)


@pytest.mark.parametrize("norm", ["group", "instance", "none", "spectral"])
def test_gradient_penalty_is_applied_as_in_the_paper(norm):
    model = made(loss="wasserstein", discriminator_norm=norm).eval()  # spectral norms keep still
    real, fake = images()
    mix = model.uniform(6)[:, None, None, None]
    penalty = ((slopes(model, mix * real + (1 - mix) * fake).norm(dim=1) - 1) ** 2).mean()
    expected = model.discriminator(fake).mean() - model.discriminator(real).mean() + 10 * penalty
    loss = model.discriminator_loss(real, fake)
    torch.testing.assert_close(loss, expected)
    assert penalty.item() > 1e-3
    for one, other in zip(gradients(model, loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-6 + 2e-3 * other.abs().max().item())
    assert model.pop_recorded()["train/gradient_penalty"] == pytest.approx(penalty.item(), rel=1e-4)


def test_r1_is_applied_as_in_the_paper():
    model = made(r1_weight=6.0)
    real, fake = images()
    penalty = slopes(model, real).square().sum(dim=1).mean()
    logits = softplus(-model.discriminator(real)).mean() + softplus(model.discriminator(fake)).mean()
    expected = logits + 3 * penalty  # gamma / 2
    loss = model.discriminator_loss(real, fake)
    torch.testing.assert_close(loss, expected)
    assert penalty.item() > 1e-3
    pairs = zip(gradients(model, loss), gradients(model, expected), gradients(model, logits), strict=True)
    changed = 0
    for one, other, without in pairs:
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3 * other.abs().max().item())
        changed += not torch.allclose(one, without, rtol=1e-2)
    assert changed > 3
    assert model.pop_recorded()["train/r1"] == pytest.approx(penalty.item(), rel=1e-4)


def test_the_wasserstein_loss_has_its_penalty_unless_it_is_switched_off():
    assert made(loss="wasserstein").gradient_penalty_weight == 10
    assert made(loss="wasserstein", gradient_penalty_weight=0.0).gradient_penalty_weight == 0
    assert made(loss="hinge").gradient_penalty_weight == 0


def test_no_gradient_of_the_discriminators_loss_reaches_the_generator():
    model = made(loss="wasserstein", r1_weight=1.0)
    real, _ = images()
    model.discriminator_loss(real, model.generator(torch.randn(6, 5))).backward()
    assert all(parameter.grad is None for parameter in model.generator.parameters())
    assert all(
        parameter.grad is not None for name, parameter in model.discriminator.named_parameters() if "weight" in name
    )
    model.zero_grad(set_to_none=True)
    model.generator_loss(model.generator(torch.randn(6, 5))).backward()
    assert all(parameter.grad is not None for parameter in model.generator.parameters())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_shape_that_is_promised(size, channels):
    spec = ImageSpec(channels, size[0], size[1], tuple("abc"))
    for conditioning in ("none", "projection", "auxiliary"):
        model = made(spec, conditioning=conditioning)
        labels = torch.tensor([0, 2]) if conditioning != "none" else None
        fake = model.generator(torch.randn(2, 5), labels)
        assert fake.shape == (2, *spec.shape) and fake.abs().max() <= 1
        assert model.judge(fake, labels)[0].shape == (2,)
        assert model.sample([3, 9, 4]).shape == (3, *spec.shape)


@pytest.mark.parametrize("size", [(4, 4), (8, 4), (10, 8), (8, 30), (9, 9), (34, 32), (7, 8)], ids=str)
def test_sizes_that_are_refused_with_a_reason(size):
    with pytest.raises(UserError, match="multiples of 4") as caught:
        made(ImageSpec(3, *size))
    assert f"{size[0]}x{size[1]}" in str(caught.value)


@pytest.mark.parametrize("weight", [{"loss": "wasserstein"}, {"r1_weight": 1.0}, {"gradient_penalty_weight": 1.0}])
def test_penalties_refuse_norms_that_mix_images(weight):
    with pytest.raises(UserError, match="batch norm"):
        made(discriminator_norm="batch", **weight)
    made(discriminator_norm="instance", **weight)


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"width": -3}, {"latent_size": 0}, {"generator_lr": 0.0}, {"discriminator_lr": -1.0}, {"beta1": 1.0},
     {"beta1": -0.1}, {"r1_weight": -1.0}, {"gradient_penalty_weight": -1.0}, {"discriminator_steps": 0},
     {"class_weight": -1.0}, {"feature_matching_weight": -1.0}],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        made(**options)


def test_classes_need_labels():
    with pytest.raises(UserError, match="conditioning"):
        made(ImageSpec(1, 8, 8), conditioning="projection")


def test_an_auxiliary_classifier_is_trained_by_both_networks_as_in_the_paper():
    model = made(conditioning="auxiliary", class_weight=0.7)
    real, fake = images()
    labels = torch.arange(6) % 3
    outputs = [model.discriminator(side, labels) for side in (real, fake)]
    assert outputs[0].shape == (6, 4)
    torch.testing.assert_close(model.discriminator(real), outputs[0])  # the label is not shown to D
    (real_logits, real_classes), (fake_logits, fake_classes) = ((output[:, 0], output[:, 1:]) for output in outputs)

    def named(logits):
        return -logits.log_softmax(dim=1)[torch.arange(6), labels].mean()

    adversarial = softplus(-real_logits).mean() + softplus(fake_logits).mean()
    expected = adversarial + 0.7 * (named(real_classes) + named(fake_classes))
    torch.testing.assert_close(model.discriminator_loss(real, fake, labels), expected)
    expected = softplus(-fake_logits).mean() + 0.7 * named(fake_classes)
    torch.testing.assert_close(model.generator_loss(fake, labels), expected)
    recorded = model.pop_recorded()
    assert recorded["train/real_class_loss"] == pytest.approx(named(real_classes).item(), rel=1e-5)
    assert recorded["train/fake_class_loss"] == pytest.approx(named(fake_classes).item(), rel=1e-5)


def test_penalties_act_on_the_judgement_and_not_on_the_classes():
    model = made(conditioning="auxiliary", r1_weight=6.0, class_weight=0.0)
    real, fake = images()
    labels = torch.arange(6) % 3
    loss = model.discriminator_loss(real, fake, labels)
    with torch.no_grad():
        model.discriminator.classifier.weight.mul_(3)
    torch.testing.assert_close(model.discriminator_loss(real, fake, labels), loss)


@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
def test_the_class_changes_what_is_made_and_how_it_is_judged(conditioning):
    model = made(conditioning=conditioning)
    real, _ = images(2)
    logits = [model.discriminator(real, torch.tensor([label, label])) for label in range(3)]
    assert (logits[0] - logits[1]).abs().min() > 1e-4 and (logits[1] - logits[2]).abs().min() > 1e-4
    same = [model.sample([5], labels=[label]) for label in range(3)]
    assert (same[0] - same[1]).abs().max() > 0
    assert torch.equal(model.sample([5]), same[5 % 3])
    torch.testing.assert_close(model.sample([4, 5], labels=[0, 2])[1:], same[2])


def test_optimizers_belong_to_their_players():
    model = made(generator_lr=0.1, discriminator_lr=0.2, beta1=0.3)
    for name, optimizer, rate in zip(model.players, model.configure_optimizers(), (0.2, 0.1), strict=True):
        (group,) = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in getattr(model, name).parameters()]
        assert group["lr"] == rate and group["betas"] == (0.3, 0.999)


def test_samples_leave_the_model_and_the_random_state_alone():
    model = made(generator_norm="batch").train()
    before = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    first = model.sample([1, 2])
    assert torch.equal(torch.get_rng_state(), before[0]) and model.generator.training
    assert all(torch.equal(before[1][name], value) for name, value in model.state_dict().items())
    assert not first.requires_grad and torch.equal(first, model.sample([1, 2]))


def test_both_updates_share_one_batch_of_fakes():
    model = made()
    calls = []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    model.noise = lambda count, size: torch.randn(count, size)
    seen = []
    model.update = lambda player, loss, every=1: seen.append((player, loss().item(), every))
    model.adversarial_step({"image": next(images()), "index": torch.arange(6)})
    assert len(calls) == 1 and [player for player, *_ in seen] == ["discriminator", "generator"]
    model.discriminator_steps = 4
    model.adversarial_step({"image": next(images()), "index": torch.arange(6)})
    assert [every for *_, every in seen] == [1, 1, 1, 4]


def test_weights_start_as_in_the_paper_and_spectral_norm_is_on_top():
    model = DCGAN(ImageSpec(3, 64, 64), discriminator_norm="spectral")
    weight = model.generator.get_parameter("layers.3.weight")
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    layer = next(layer for layer in model.discriminator.modules() if isinstance(layer, nn.Conv2d))
    assert layer.get_parameter("parametrizations.weight.original").std().item() == pytest.approx(0.02, rel=0.1)
    model.train()
    for _ in range(30):  # the power iteration settles
        _ = layer.weight
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.02)


def test_features_need_a_network():
    with pytest.raises(UserError, match="feature_network"):
        made(feature_matching_weight=1.0)


class Means:
    """Stands for a network: one layer of two features."""

    def __call__(self, values):
        return [torch.stack([values.mean(dim=(1, 2, 3)), values.amax(dim=(1, 2, 3))], dim=1)]


def test_features_are_matched_in_the_mean_by_the_generator_alone():
    model = made(feature_matching_weight=3.0, feature_network="run")
    model.features = Means()
    real, fake = images()
    fake.requires_grad_()
    loss = model.feature_loss(real, fake)
    (of_real,), (of_fake,) = Means()(real), Means()(fake)
    torch.testing.assert_close(loss, 3 * (of_real.mean(dim=0) - of_fake.mean(dim=0)).square().mean())
    loss.backward()
    assert fake.grad.abs().sum() > 0
    assert model.pop_recorded()["train/feature_matching"] == pytest.approx(loss.item() / 3, rel=1e-5)
    seen = []
    model.noise = lambda count, size: torch.randn(count, size, generator=torch.Generator().manual_seed(2))
    model.update = lambda player, loss, every=1: seen.append((player, loss().item()))
    batch = {"image": real, "index": torch.arange(6)}
    model.adversarial_step(batch)
    model.features = None
    model.adversarial_step(batch)
    (_, d), (_, g), (_, plain_d), (_, plain_g) = seen
    assert d == pytest.approx(plain_d) and abs(g - plain_g) > 1e-4


def test_the_feature_network_is_read_for_training_alone_and_is_no_part_of_the_model(tmp_path):
    from aigc_lightning.core.checkpoint import save_weights
    from aigc_lightning.models.cnn import CNN

    path = tmp_path / "cnn.safetensors"
    save_weights(CNN(SPEC, width=4), path, {})
    model = made(feature_matching_weight=1.0, feature_network=str(path))
    keys = list(model.state_dict())
    model.setup("validate")
    assert model.features is None
    model.setup("fit")
    assert model.features is not None and list(model.state_dict()) == keys
    assert not any("backbone" in name for name, _ in model.named_modules())
    before = {name: value.clone() for name, value in model.features.network.state_dict().items()}
    model.train()
    real, fake = images()
    model.feature_loss(real, fake)
    assert all(torch.equal(before[name], value) for name, value in model.features.network.state_dict().items())
