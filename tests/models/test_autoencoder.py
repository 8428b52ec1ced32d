from typing import Any

import pytest
import torch

from aigc_lightning.core.predictions import edited
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.autoencoder import Autoencoder

RESTORATION = ImageSpec(3, 16, 16, task="restoration")


def made(spec: ImageSpec = RESTORATION, **options) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(spec, **{"width": 4, "num_halvings": 2, "code_channels": 6, **options})


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(**images: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**images, "index": torch.arange(2)}


@pytest.mark.parametrize(
    ("task", "keys"),
    [("restoration", ("degraded", "image")), ("paired", ("source", "target")), ("generation", ("image", "image"))],
)
def test_each_task_has_its_input_and_target(task, keys):
    model = made(ImageSpec(3, 8, 8, task=task))
    first, second = noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1)
    given = batch(**dict(zip(keys, (first, second), strict=True)))
    loss = model.training_step(given, 0)
    expected = (model(given[keys[0]]) - given[keys[1]]).square().add(1e-6).sqrt().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert model.pop_recorded() == {"train/loss": pytest.approx(loss.item())}
    assert torch.equal(edited(model, given), model.edit(given[keys[0]]))


def test_skip_connections_are_for_tasks_that_need_them():
    assert made().network.skips and made(ImageSpec(3, 8, 8, task="paired")).network.skips
    assert not made(ImageSpec(3, 8, 8)).network.skips
    assert made(ImageSpec(3, 8, 8), skips=True).network.skips


@pytest.mark.parametrize(("name", "expected"), [("absolute", 0.5), ("squared", 0.25), ("charbonnier", 0.5)])
def test_losses_by_name(name, expected):
    model = made(loss=name)  # which starts as the identity
    degraded = noise(2, 3, 8, 8) / 2
    assert model.training_step(batch(degraded=degraded, image=degraded + 0.5), 0).item() == pytest.approx(
        expected, rel=1e-3
    )


def test_any_size_is_edited_in_range_and_nothing_else_changes():
    model = made().train()
    state = torch.get_rng_state()
    for size in ((1, 1), (5, 7), (40, 24)):
        edited = model.edit(3 * noise(2, 3, *size))
        assert edited.shape == (2, 3, *size) and edited.abs().max() <= 1 and not edited.requires_grad
        assert model.embed(noise(2, 3, *size)).shape == (2, 16)
    assert torch.equal(state, torch.get_rng_state()) and model.network.training


def test_it_learns_to_remove_noise():
    model = made(width=8, lr=3e-3)
    chosen: Any = model.configure_optimizers()
    optimizer = chosen["optimizer"]
    clean = (noise(8, 3, 1, 1) / 2).expand(-1, -1, 16, 16)
    for step in range(60):
        loss = model.training_step(batch(degraded=clean + 0.3 * noise(8, 3, 16, 16, seed=step), image=clean), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    degraded = clean + 0.3 * noise(8, 3, 16, 16, seed=1000)
    assert (model.edit(degraded) - clean).square().mean() < 0.2 * (degraded - clean).square().mean()


def test_the_rate_follows_the_batches():
    model = made(lr=0.1, warmup_steps=1, schedule_steps=3)
    chosen: Any = model.configure_optimizers()
    assert chosen["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(4):
        rates.append(chosen["optimizer"].param_groups[0]["lr"])
        chosen["optimizer"].step()
        chosen["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.05, 0.1, 0.05, 0.0])


def test_unpaired_images_are_refused():
    with pytest.raises(UserError, match="unpaired"):
        made(ImageSpec(3, 8, 8, task="unpaired"))


def test_degraded_images_of_another_size_are_refused():
    with pytest.raises(UserError, match=r"preserves the image size.*scale 2"):
        made(ImageSpec(3, 8, 8, task="restoration", scale=2))
    with pytest.raises(UserError, match="4x4 and 8x8"):
        made().training_step(batch(degraded=noise(2, 3, 4, 4), image=noise(2, 3, 8, 8)), 0)


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"num_blocks": 0}, {"code_channels": 0}, {"lr": 0.0}, {"num_halvings": -1}, {"warmup_steps": -1},
     {"schedule_steps": 0}],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        made(**options)
