"""The model keeps every promise of a plugin, and its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.testing import ModelConformance, NoiseImages
from aigc_lightning.testing.exactness import train
from torch import Tensor

from aigc_stylegan.progan import ProGAN
from aigc_stylegan.progressive import ProgressiveDiscriminator, ProgressiveGenerator, double, halve, reduced
from aigc_stylegan.pyramid import pyramid

SMALL: dict[str, Any] = {"latent_size": 8, "channel_base": 128, "channel_max": 8}


class TestProGAN(ModelConformance):
    """A new level comes at each step, so all that is checked holds across levels."""

    model = "progan"
    config = "aigc-stylegan:progan_digits"
    settings = (
        "model.channel_base=128",
        "model.channel_max=8",
        "model.fade_images=8",
        "model.stable_images=8",
        "data.batch_size=12",
    )


def build(spec: ImageSpec | None = None, **changed: Any) -> ProGAN:
    torch.manual_seed(0)
    return ProGAN(spec or ImageSpec(1, 16, 16), **{**SMALL, **changed})


def test_schedule() -> None:
    model = build(fade_images=100, stable_images=300)
    stages = {seen: model.stage(seen) for seen in (0, 299, 300, 325, 400, 699, 700, 750, 800, 10**6)}
    assert stages == {
        0: (0, 1.0),
        299: (0, 1.0),
        300: (1, 0.0),
        325: (1, 0.25),
        400: (1, 1.0),
        699: (1, 1.0),
        700: (2, 0.0),
        750: (2, 0.5),
        800: (2, 1.0),
        10**6: (2, 1.0),
    }


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_those_of_table_2() -> None:
    """1024x1024 RGB: 23.1 million in each network, and those of each layer to the digits that the paper gives."""
    widths = pyramid("ProGAN", ImageSpec(3, 1024, 1024), 16384, 512)[1]
    generator = ProgressiveGenerator(512, 3, (4, 4), widths)
    discriminator = ProgressiveDiscriminator(3, (4, 4), widths)
    grown = [2.4e6, 2.4e6, 2.4e6, 1.2e6, 295e3, 74e3, 18e3, 4.6e3]  # from 8x8 to 1024x1024
    kept = [2.4e6, 2.4e6, 2.4e6, 590e3, 148e3, 37e3, 9.2e3, 2.3e3]
    pairs = [
        *zip(map(size, generator.up), grown, strict=True),
        *zip(map(size, generator.same), kept, strict=True),
        *zip(map(size, discriminator.down), grown, strict=True),
        *zip(map(size, discriminator.same), kept, strict=True),
        (size(generator.dense), 4.2e6),
        (size(generator.first), 2.4e6),
        (size(discriminator.last), 2.4e6),
        (size(discriminator.hidden), 4.2e6),
        (size(generator), 23.1e6),
        (size(discriminator), 23.1e6),
    ]
    assert [f"{found:.1e}" for found, _ in pairs] == [f"{published:.1e}" for _, published in pairs]
    exact = (generator.to_image[-1], discriminator.from_image[-1], discriminator.output)
    assert [size(layer) for layer in exact] == [51, 64, 513]
    assert (size(generator), size(discriminator)) == (23_086_795, 23_087_249)


def test_a_new_level_changes_nothing_at_first() -> None:
    model, latents = build(ImageSpec(3, 16, 24)), torch.randn(2, 8)
    before = model.generator(latents, 1)
    assert before.shape == (2, 3, 8, 12)
    assert torch.allclose(model.generator(latents, 2, 0.0), double(before), atol=1e-6)
    images = torch.randn(4, 3, 16, 24)
    assert torch.allclose(model.discriminator(images, 2, 0.0), model.discriminator(halve(images), 1), atol=1e-5)
    middle = (model.generator(latents, 2, 0.0) + model.generator(latents, 2, 1.0)) / 2
    assert torch.allclose(model.generator(latents, 2, 0.5), middle, atol=1e-5)


def test_real_images_of_a_level() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert reduced(images, 1, 1.0).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(reduced(images, 1, 0.0), torch.full((1, 1, 2, 2), 7.5))
    assert reduced(images, 1, 0.5).flatten().tolist() == [5.0, 6.0, 9.0, 10.0]


def test_drift_is_the_mean_square_at_real_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProGAN, "record", lambda self, name, value: None)
    monkeypatch.setattr(ProGAN, "uniform", lambda self, *shape: torch.rand(shape))
    model, real, fake = (
        build(drift_weight=0.5, gradient_penalty_weight=0.0),
        torch.randn(4, 1, 4, 4),
        torch.randn(4, 1, 4, 4),
    )
    values = model.judge(real)
    expected = model.judge(fake).mean() - values.mean() + 0.5 * values.square().mean()
    assert torch.allclose(model.discriminator_loss(real, fake), expected)
    model.gradient_penalty_weight = 10.0
    assert model.discriminator_loss(real, fake) > expected


def test_features_keep_their_size_at_the_start() -> None:
    torch.manual_seed(0)
    model, squares = ProGAN(ImageSpec(3, 32, 32), latent_size=64, channel_max=64), []
    for layer in (*model.generator.up, *model.generator.same):
        layer.register_forward_hook(lambda layer, inputs, output: squares.append(output[..., 1:-1, 1:-1].var().item()))
    with torch.no_grad():
        model.generator(torch.randn(64, 64), 3)
    assert len(squares) == 6
    assert all(0.5 < square < 1.5 for square in squares)


@pytest.mark.parametrize("changed", [{"spec": ImageSpec(1, 8, 8)}, {"channel_base": 8}, {"fade_images": 0}])
def test_refuses(changed: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"8x8|channel_base|fade_images"):
        build(**changed)


def test_parts_of_a_batch_give_what_the_whole_gives(tmp_path: Path) -> None:
    """From the first level to the second, which comes in the middle."""

    def weights(parts: int) -> dict[str, Tensor]:
        def make(batch_size: int) -> tuple[ProGAN, NoiseImages]:
            model = build(fade_images=16, stable_images=8)
            model.engine = Engine(micro_batches=parts)
            return model, NoiseImages(channels=1, height=16, width=16, batch_size=batch_size)

        saved: dict[str, Tensor] = train(make, 8, 3, tmp_path / str(parts), precision="64-true").saved["state_dict"]
        return saved

    whole, halves = weights(1), weights(2)
    assert whole["images_seen"] == 24
    for name, value in whole.items():
        assert torch.allclose(value, halves[name], rtol=1e-9, atol=1e-9), name
