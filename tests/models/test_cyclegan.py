"""Losses, pools and directions of CycleGAN; the loop is tested with the engine."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.engine.image_pool import ImagePool
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.cyclegan import CycleGAN
from aigc_lightning.testing import NoiseImages
from aigc_lightning.testing.exactness import different_tensors, largest_difference, train

SPEC = ImageSpec(3, 16, 12, task="unpaired")
KINDS = ("A", "B")


def made(spec=SPEC, **options):
    torch.manual_seed(0)
    values = {"width": 4, "num_blocks": 1, "discriminator_width": 4, "discriminator_layers": 2, **options}
    model = CycleGAN(spec, **values)
    # Weights of 0.02 make all logits alike: larger ones, so that every term shows.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


def images(count=3):
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.rand(count, *SPEC.shape, generator=generator) * 2 - 1 for _ in range(4)]
    return dict(zip(KINDS, drawn[:2], strict=True)), dict(zip(KINDS, drawn[2:], strict=True))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("size", "generator"), [(128, 7_837_699), (256, 11_378_179)])
def test_the_networks_of_the_paper(size, generator):
    model = CycleGAN(ImageSpec(3, size, size, task="unpaired"))
    assert [count(network) for network in model.generator_pair.values()] == [generator] * 2
    assert [count(network) for network in model.discriminator_pair.values()] == [2_764_737] * 2
    assert model.generator_pair["AtoB"].get_parameter("layers.0.weight").std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("norm", "kind", "scaled"),
    [
        ("plain_instance", nn.InstanceNorm2d, False),
        ("instance", nn.InstanceNorm2d, True),
        ("group", nn.GroupNorm, True),
    ],
)
def test_norms_are_in_all_networks(norm, kind, scaled):
    model = made(norm=norm)
    for network in (*model.generator_pair.values(), *model.discriminator_pair.values()):
        found = [layer for layer in network.modules() if isinstance(layer, nn.InstanceNorm2d | nn.GroupNorm)]
        assert len(found) >= 2 and all(isinstance(layer, kind) and layer.affine == scaled for layer in found)


def test_the_discriminators_loss_by_hand():
    model = made(pool_size=0)
    real, fakes = images()
    logits = {kind: [model.discriminator_pair[kind](part[kind]) for part in (real, fakes)] for kind in KINDS}
    assert logits["A"][0].std() > 1e-3
    expected = sum((((r - 1) ** 2).mean() + (f**2).mean()) / 2 for r, f in logits.values())
    model._shown = {kind: [] for kind in KINDS}
    model._pool_key = lambda kind: (0,)
    torch.testing.assert_close(model.discriminators_loss(real, fakes), expected)


def test_the_generators_loss_by_hand():
    model = made(cycle_weight=3.0, identity_weight=2.0)
    real, fakes = images()
    to_a, to_b = model.generator_pair["BtoA"], model.generator_pair["AtoB"]
    same = {"A": to_a(real["A"]), "B": to_b(real["B"])}
    adversarial = sum(((model.discriminator_pair[kind](fakes[kind]) - 1) ** 2).mean() for kind in KINDS)
    cycle = (to_a(fakes["B"]) - real["A"]).abs().mean() + (to_b(fakes["A"]) - real["B"]).abs().mean()
    identity = sum((same[kind] - real[kind]).abs().mean() for kind in KINDS)
    torch.testing.assert_close(model.generators_loss(real, fakes, same), adversarial + 3 * cycle + 2 * identity)
    torch.testing.assert_close(model.generators_loss(real, fakes, {}), adversarial + 3 * cycle)
    assert model.pop_recorded()["train/identity"] == pytest.approx(identity.item(), rel=1e-4)


@pytest.mark.parametrize("identity_weight", [0.0, 5.0])
def test_the_step_hands_each_image_to_its_generator_and_judge(identity_weight):
    model = made(identity_weight=identity_weight)
    (real, _), seen = images(), {}
    model.update = lambda player, loss: seen.update({player: loss()})
    model.discriminators_loss = lambda *given: seen.update(judged=given)
    model.generators_loss = lambda *given: seen.update(made=given)
    model.adversarial_step({"image_a": real["A"], "image_b": real["B"], "index": torch.arange(3)})
    to_a, to_b = model.generator_pair["BtoA"], model.generator_pair["AtoB"]
    found, fakes, same = seen["made"]
    assert seen["judged"][0] is found and seen["judged"][1] is fakes
    assert torch.equal(found["A"], real["A"]) and torch.equal(found["B"], real["B"])
    torch.testing.assert_close(fakes, {"A": to_a(real["B"]), "B": to_b(real["A"])}, rtol=1e-4, atol=1e-5)
    expected = {"A": to_a(real["A"]), "B": to_b(real["B"])} if identity_weight else {}
    torch.testing.assert_close(same, expected, rtol=1e-4, atol=1e-5)
    assert list(seen)[-2:] == ["made", "generator_pair"]


def test_no_gradient_of_the_discriminators_loss_reaches_the_generators():
    model = made()
    real, _ = images()
    model.discriminator_loss("A", real["A"], model.generator_pair["BtoA"](real["B"])).backward()
    assert all(parameter.grad is None for parameter in model.generator_pair.parameters())
    assert all(parameter.grad is None for parameter in model.discriminator_pair["B"].parameters())
    assert all(parameter.grad is not None for parameter in model.discriminator_pair["A"].parameters())


def test_edits_in_both_directions_and_any_size():
    model = made().train()
    real, _ = images()
    forth, back = model.edit(real["A"]), model.edit(real["A"], direction="BtoA")
    assert torch.equal(forth, model.edit(real["A"], "AtoB")) and not torch.allclose(forth, back)
    assert model.generator_pair.training and not forth.requires_grad
    assert model.edit(torch.zeros(1, 3, 7, 31)).shape == (1, 3, 7, 31)
    with pytest.raises(UserError, match="'up'"):
        model.edit(real["A"], "up")
    shown = model.comparison({"image_a": real["A"], "image_b": real["B"], "index": torch.arange(3)})
    assert list(shown) == ["A", "A to B", "B", "B to A"] and torch.equal(shown["A to B"], forth)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"width": 0}, "width"), ({"num_blocks": 0}, "num_blocks"), ({"beta1": 1.0}, "beta1"), ({"lr": 0.0}, "lr"),
     ({"cycle_weight": -1.0}, "cycle_weight"), ({"identity_weight": -1.0}, "identity_weight"),
     ({"pool_size": -1}, "pool_size"), ({"discriminator_layers": 0}, "discriminator_layers"),
     ({"schedule_steps": 0}, "schedule_steps"), ({"discriminator_layers": 3}, "24 pixels"),
     ({"spec": ImageSpec(3, 64, 64, task="paired")}, "paired")],
    ids=str,
)  # fmt: skip
def test_what_is_refused(options, named):
    with pytest.raises(UserError, match=named):
        made(**options)


# ---- through the engine


def build(engine=Engine(), **options):  # noqa: B008 (frozen)
    return partial(make, engine, options)


def make(engine, options, batch_size):
    data = NoiseImages(1, 12, 8, task="unpaired", num_images=15, batch_size=batch_size)
    values = {"width": 4, "num_blocks": 1, "discriminator_width": 4, "discriminator_layers": 1, "pool_size": 6}
    model = CycleGAN(data.spec, **{**values, "schedule_steps": 8, **options})
    model.engine = engine
    return model, data


def largest(first, second):
    assert [number for number, _ in first.gradients] == [number for number, _ in second.gradients]
    return max(largest_difference(a, b) for (_, a), (_, b) in zip(first.gradients, second.gradients, strict=True))


def pools(trace):
    found = trace.saved["image_pools"]
    assert len(found["A"]) == len(found["B"]) == 6 and not torch.equal(found["A"], found["B"])
    return found


@pytest.mark.parametrize("augment", ["none", pytest.param("diff", marks=pytest.mark.slow)])
def test_processes_and_micro_batches_change_nothing(augment, tmp_path):
    """The pools are full after two of eight steps, and the last batch of an epoch is ragged."""
    one = train(build(Engine(augment=augment)), 4, 8, tmp_path / "one", precision="64-true")
    two = train(build(Engine(augment=augment)), 4, 8, tmp_path / "two", processes=2, precision="64-true")
    parts = train(build(Engine(augment=augment, micro_batches=3)), 4, 8, tmp_path / "parts", precision="64-true")
    for other in (two, parts):
        assert largest(other, one) < 1e-10
        torch.testing.assert_close(pools(other), pools(one))


def test_the_pools_are_used(tmp_path):
    one = train(build(), 4, 6, tmp_path / "one", precision="64-true")
    none = train(build(pool_size=0), 4, 6, tmp_path / "none", precision="64-true")
    assert largest(none, one) > 1e-3


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(processes, tmp_path):
    whole = train(build(), 4, 7, tmp_path / "whole", processes=processes)
    first = train(build(), 4, 3, tmp_path / "first", processes=processes)
    second = train(build(), 4, 7, tmp_path / "second", processes=processes, resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) == []
    torch.testing.assert_close(pools(second), pools(whole), rtol=0, atol=0)
    rates = [state["param_groups"][0]["lr"] for state in whole.saved["optimizer_states"]]
    assert rates == pytest.approx([2e-4 / 4] * 2)  # one of four steps down


def test_a_resumed_run_without_its_pools_differs(tmp_path, monkeypatch):
    """The negative control of the test above."""
    whole = train(build(), 4, 6, tmp_path / "whole")
    first = train(build(), 4, 3, tmp_path / "first")
    monkeypatch.setattr(CycleGAN, "on_load_checkpoint", lambda model, checkpoint: None)
    second = train(build(), 4, 6, tmp_path / "second", resume=first.checkpoint)
    assert different_tensors(second.saved, whole.saved) != []


def test_held_out_pairs_are_scored(tmp_path):
    """Both directions against their partners, and the way there and back."""
    scores = {}

    class Noting(CycleGAN):
        def log_held_out(self, name, values):
            scores[name] = values
            super().log_held_out(name, values)

    def make(batch_size):
        data = NoiseImages(1, 12, 12, task="unpaired", num_images=5, batch_size=batch_size)
        return Noting(data.spec, 4, 1, 4, discriminator_layers=1, held_out_pairs=True), data

    train(make, 5, 1, tmp_path, limit_val_batches=1)
    names = [f"{score}_{direction}" for direction in ("AtoB", "BtoA") for score in ("l1", "psnr", "ssim")]
    assert list(scores) == ["cycle", *names] and all(values.shape == (5,) for values in scores.values())
    assert (scores["psnr_AtoB"] <= -20 * scores["l1_AtoB"].log10()).all()  # the mean square is not below the square


def test_exports_leave_the_pools_out(tmp_path):
    model = made()
    model.pools["A"] = ImagePool(2)
    model.pools["A"].images = torch.zeros(2, *SPEC.shape)
    save_weights(model, tmp_path / "model.safetensors", {})
    checkpoint: dict[str, Any] = {}
    model.on_save_checkpoint(checkpoint)
    assert len(checkpoint["image_pools"]["A"]) == 2 and checkpoint["image_pools"]["B"] is None
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 4.3 * count(model) + 10_000
