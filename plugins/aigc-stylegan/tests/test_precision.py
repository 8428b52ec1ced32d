"""What mixed precision may change, and what it may not."""

from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec
from torch import Tensor, nn

from aigc_stylegan.discriminator import Discriminator
from aigc_stylegan.generator import Generator, StyledConv, demodulation, modulated_convolution
from aigc_stylegan.layers import MappingNetwork
from aigc_stylegan.precision import limited, normalised
from aigc_stylegan.stylegan2 import StyleGAN2

WIDTHS = [8, 8, 8, 4, 4]  # five levels


def half(kind: torch.dtype = torch.bfloat16) -> torch.autocast:
    return torch.autocast("cpu", kind)


def output_types(network: nn.Module, *inputs: Tensor) -> dict[str, torch.dtype]:
    """Return the types that the layers of a network give in mixed precision."""
    found: dict[str, torch.dtype] = {}

    def note(name: str) -> Any:
        return lambda layer, given, output: found.__setitem__(name, output.dtype)

    for name, layer in network.named_modules():
        layer.register_forward_hook(note(name))
    with half():
        network(*inputs)
    return found


def test_mapping_and_demodulation_do_not_change() -> None:
    torch.manual_seed(0)
    network, latents, weight = MappingNetwork(8, 6), torch.randn(4, 8), torch.randn(5, 6, 3, 3)
    before = network(latents), demodulation(weight, torch.ones(2, 6))
    with half():
        after = network(latents), demodulation(weight, torch.ones(2, 6))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_only_the_four_highest_levels_of_the_generator_are_half() -> None:
    types = output_types(Generator(8, 8, 0, 2, 3, (4, 4), WIDTHS), torch.randn(2, 8))
    assert types["synthesis.first"] == types["synthesis.to_image.0"] == types["synthesis"] == torch.float32
    for level in range(4):
        assert types[f"synthesis.up.{level}"] == types[f"synthesis.same.{level}"] == torch.bfloat16
    assert types["mapping"] == types["synthesis.up.3.style"] == types["synthesis.upsample"] == torch.float32


def test_only_the_four_highest_levels_of_the_discriminator_are_half() -> None:
    types = output_types(Discriminator(3, (4, 4), [8, *WIDTHS]), torch.randn(4, 3, 128, 128))
    assert [types[f"blocks.{number}"] for number in range(5)] == [*[torch.bfloat16] * 4, torch.float32]
    assert types["from_image"] == torch.bfloat16
    assert types["last"] == types["hidden"] == types[""] == torch.float32


def test_results_stay_near_those_of_full_precision() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(8, 8, 0, 2, 3, (4, 4), WIDTHS), Discriminator(3, (4, 4), WIDTHS)
    latents = torch.randn(4, 8)
    images = generator(latents)
    logits = discriminator(images)
    with half():
        assert (generator(latents) - images).abs().max() < 0.03 * images.abs().max()
        assert (discriminator(images) - logits).abs().max() < 0.03 * logits.abs().max()


def test_normalised_modulation_gives_the_same_once_demodulated() -> None:
    torch.manual_seed(0)
    features, weight, styles = torch.randn(2, 6, 4, 4), 1000 * torch.randn(5, 6, 3, 3), 1000 * torch.randn(2, 6)

    def convolved(weight: Tensor, styles: Tensor) -> Tensor:
        factors = demodulation(weight, styles)[:, :, None, None]
        return modulated_convolution(features, weight, styles) * factors

    small = normalised(weight, styles)
    assert small[0].abs().amax(dim=(1, 2, 3)).allclose(torch.tensor(54**-0.5))
    assert small[1].abs().amax(dim=1).allclose(torch.ones(2))
    assert torch.allclose(convolved(*small), convolved(weight, styles), atol=1e-5)


def test_features_of_float16_stay_below_its_end() -> None:
    torch.manual_seed(0)
    layer, styles = StyledConv(16, 4, 8), 1e4 * torch.randn(2, 8)
    features, noise = torch.full((2, 16, 8, 8), 256.0), torch.zeros(2, 1, 8, 8)
    with torch.no_grad():
        layer.bias += 1000.0
        full = layer(features, styles, noise)
        with half(torch.float16):
            small = layer(features, styles, noise)
    assert full.max() > 256  # what float32 does with it
    assert small.dtype == torch.float16
    assert bool(small.isfinite().all()) and small.max() == 256
    assert torch.allclose(small.float(), full.clamp(-256, 256), rtol=1e-2, atol=1.0)
    assert limited(full) is full


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_regularisation_in_mixed_precision(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not change in float16, which is too narrow for slopes, and not much in bfloat16."""
    for name, value in {"noise": torch.randn, "uniform": torch.rand}.items():
        monkeypatch.setattr(StyleGAN2, name, lambda self, *shape, draw=value: draw(shape))
    monkeypatch.setattr(StyleGAN2, "record", lambda self, name, value: None)
    torch.manual_seed(0)
    model = StyleGAN2(ImageSpec(3, 32, 32), 8, 8, 2, channel_base=256, channel_max=16)
    real = torch.rand(4, 3, 32, 32)

    def slopes(mixed: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast("cpu", kind, enabled=mixed):
            loss = model.r1_loss(real) + model.path_length_loss(4)
        loss.backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    exact, found = slopes(mixed=False), slopes(mixed=True)
    assert len(found) == len(exact) > 40
    if kind == torch.float16:
        assert all(torch.equal(one, other) for one, other in zip(found, exact, strict=True))
    else:
        whole, expected = (torch.cat([slope.flatten() for slope in some]) for some in (found, exact))
        assert torch.nn.functional.cosine_similarity(whole, expected, dim=0) > 0.99
