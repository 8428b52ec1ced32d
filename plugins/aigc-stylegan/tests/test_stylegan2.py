"""The model keeps every promise of a plugin, and its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.evaluation.extractors import ModelExtractor
from aigc_lightning.evaluation.path_length_scores import path_length_of
from aigc_lightning.models.cnn import CNN
from aigc_lightning.testing import ModelConformance, NoiseImages
from aigc_lightning.testing.exactness import train
from torch import Tensor

from aigc_stylegan.discriminator import Block, Discriminator
from aigc_stylegan.generator import Generator, StyledConv, ToImage
from aigc_stylegan.layers import MappingNetwork
from aigc_stylegan.stylegan2 import StyleGAN2

CLASSES = tuple("abc")
SMALL: dict[str, Any] = {"latent_size": 8, "style_size": 8, "mapping_layers": 2, "channel_base": 128, "channel_max": 16}


class TestStyleGAN2(ModelConformance):
    model = "stylegan2"
    settings = (
        "model.channel_base=128",
        "model.channel_max=8",
        "data.batch_size=8",
        "model.path_length_every=1",
        "model.r1_every=2",
    )


def build(spec: ImageSpec | None = None, **changed: Any) -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(spec or ImageSpec(1, 16, 16, CLASSES), **{**SMALL, **changed})


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def keyed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models draw and record outside of a run."""
    monkeypatch.setattr(StyleGAN2, "noise", lambda self, *shape: torch.randn(shape))
    monkeypatch.setattr(StyleGAN2, "uniform", lambda self, *shape: torch.rand(shape))
    monkeypatch.setattr(StyleGAN2, "record", lambda self, name, value: None)


def test_parameter_counts_of_config_f() -> None:
    """1024x1024 RGB: 30.37 million in G, 2.10 million of these in the mapping network, and 29.01 million in D."""
    widths = [min(512, 32768 // (4 << level)) for level in range(9)]
    generator = Generator(512, 512, 0, 8, 3, (4, 4), widths)
    assert size(generator.mapping) == 8 * (512 * 512 + 512) == 2_101_248
    assert size(generator) == 30_370_060
    assert generator.synthesis.num_styles == 18
    assert size(Discriminator(3, (4, 4), widths)) == 29_012_513


def test_statistics_at_the_start() -> None:
    """Whatever is as smooth as images mostly are keeps a mean square near 1 through all layers of both networks."""
    torch.manual_seed(0)
    mapping = MappingNetwork(256, 256)
    assert mapping(torch.randn(64, 256)).square().mean().item() == pytest.approx(1, abs=0.3)
    styles, features = torch.randn(64, 64), torch.randn(64, 64, 1, 1).expand(-1, -1, 16, 16)
    layers = {
        "same": lambda: StyledConv(64, 64, 64)(features, styles, torch.zeros(64, 1, 16, 16)),
        "up": lambda: StyledConv(64, 64, 64, up=True)(features, styles, torch.zeros(64, 1, 32, 32)),
        "residual": lambda: Block(64, 64)(features),
        "down": lambda: Block(64, 64, residual=False)(features),
    }
    for name, output in layers.items():
        assert output()[..., 3:-3, 3:-3].square().mean().item() == pytest.approx(1.04, abs=0.12), name
    # Its styles are not normalised away and have a mean square of 2: 1 of the bias and 1 of the affine map.
    assert ToImage(64, 64, 64)(features, styles).square().mean().item() == pytest.approx(2, abs=0.25)
    # White noise loses what the filter takes: a quarter of the pixels is not 0, times 16 (20 / 64)^2 of the filter.
    white = StyledConv(64, 64, 64, up=True)(torch.randn(64, 64, 16, 16), styles, torch.zeros(64, 1, 32, 32))
    assert white[..., 3:-3, 3:-3].square().mean().item() == pytest.approx(1.04 * 25 / 64, abs=0.05)


def test_noise_counts_once_its_strength_is_learnt() -> None:
    synthesis = build().generator.synthesis
    styles = torch.randn(1, synthesis.num_styles, 8)
    noises = [torch.randn(1, synthesis.num_noise) for _ in range(2)]
    assert synthesis.noise_sizes == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    assert torch.equal(*(synthesis(styles, noise) for noise in noises))
    for layer in (synthesis.first, *synthesis.up, *synthesis.same):
        before = [synthesis(styles, noise) for noise in noises]
        torch.nn.init.ones_(layer.noise_strength)
        after = [synthesis(styles, noise) for noise in noises]
        assert not torch.allclose(after[0] - after[1], before[0] - before[1], atol=1e-3)


@pytest.mark.parametrize(("height", "width", "base"), [(16, 16, (4, 4)), (32, 16, (8, 4)), (64, 96, (4, 6))])
def test_sizes(height: int, width: int, base: tuple[int, int]) -> None:
    model = build(ImageSpec(3, height, width), channel_base=256)
    assert tuple(model.generator.synthesis.constant.shape[2:]) == base
    images = model.sample([1, 2])
    assert images.shape == (2, 3, height, width)
    assert model.discriminator(images).shape == (2,)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"spec": ImageSpec(1, 8, 8)}, "8x8"),
        ({"spec": ImageSpec(1, 48, 48)}, "48x48"),
        ({"spec": ImageSpec(1, 16, 18)}, "16x18"),
        ({"spec": ImageSpec(1, 16, 16), "conditional": True}, "conditional"),
        ({"channel_base": 8}, "channel_base"),
        ({"lr": 0}, "model.lr"),
        ({"style_mixing": 1.5}, "style_mixing"),
        ({"r1_weight": -1}, "r1_weight"),
    ],
)
def test_refuses(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        build(**changed)


def test_classes_are_heard_by_both_networks() -> None:
    model = build(conditional=True)
    latents = model.latents([5]).expand(3, -1)
    images = model.decode(latents, labels=[0, 1, 2])
    assert not torch.allclose(images[0], images[1])
    assert torch.allclose(model.decode(latents[:1])[0], images[0], atol=1e-5)
    assert torch.allclose(model.sample([4, 5]), model.sample([4, 5], labels=[1, 2]))
    logits = model.discriminator(images[:1].expand(3, -1, -1, -1), torch.tensor([0, 1, 2]))
    assert len(set(logits.tolist())) == 3


@pytest.mark.parametrize("conditional", [False, True])
def test_truncation_goes_to_one_picture_a_class(conditional: bool) -> None:
    model = build(conditional=conditional)
    labels = [0, 1, 1] if conditional else None
    whole, none = model.sample([1, 2, 3], labels), model.sample([1, 2, 3], labels, trunc=0.0)
    assert torch.allclose(model.sample([1, 2, 3], labels, trunc=1 - 1e-7), whole, atol=1e-4)
    assert torch.allclose(none[1], none[2], atol=1e-5)
    assert torch.allclose(none[0], none[1], atol=1e-5) is not conditional
    assert (whole - none).abs().max() > 1e-2
    alone = model.sample([3], labels and labels[2:], trunc=0.5)
    assert torch.allclose(alone[0], model.sample([1, 2, 3], labels, trunc=0.5)[2], atol=1e-5)


@pytest.mark.usefixtures("keyed_by_hand")
def test_style_mixing_changes_once_at_any_layer() -> None:
    assert all(len(row.unique(dim=0)) == 1 for row in build(style_mixing=0.0).mixed_styles(8, None))
    styles = build(style_mixing=0.5).mixed_styles(400, None)
    changes = (styles[:, 1:] != styles[:, :-1]).any(dim=2)
    assert set(changes.sum(dim=1).tolist()) == {0, 1}
    assert changes.any(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert bool(changes.any(dim=0).all())


@pytest.mark.usefixtures("keyed_by_hand")
def test_lazy_losses_make_up_for_the_steps_between() -> None:
    often, seldom = (build(r1_every=every, path_length_every=every, style_mixing=0.0) for every in (1, 16))
    real = torch.rand(4, 1, 16, 16)
    assert torch.allclose(seldom.r1_loss(real), 16 * often.r1_loss(real))
    losses = []
    for model in (often, seldom):
        torch.manual_seed(1)
        losses.append(model.path_length_loss(4))
    assert losses[0] > 0
    assert torch.allclose(losses[1], 16 * losses[0])


def test_optimizers_are_corrected_for_lazy_losses() -> None:
    def settings(model: StyleGAN2) -> list[tuple[float, float, float]]:
        groups = [optimizer.param_groups[0] for optimizer in model.configure_optimizers()]
        return [(group["lr"], *group["betas"]) for group in groups]

    assert settings(build(lr=0.01, r1_weight=0.0, path_length_weight=0.0)) == [(0.01, 0.0, 0.99)] * 2
    found = settings(build(lr=0.01, r1_every=16, path_length_every=4))
    assert found[0] == pytest.approx((0.01 * 16 / 17, 0.0, 0.99 ** (16 / 17)))
    assert found[1] == pytest.approx((0.01 * 4 / 5, 0.0, 0.99 ** (4 / 5)))


def test_path_lengths_are_compared_with_their_mean(keyed_by_hand: None) -> None:
    model = build(path_length_every=1, path_length_weight=1.0)
    seen: list[Tensor] = []
    for mean in (0.0, 2.0):
        torch.manual_seed(1)
        model.path_length_mean.fill_(mean)
        seen.append(model.path_length_loss(4))
    lengths = model._lengths[0]
    assert torch.allclose(seen[0], lengths.square().mean())
    assert torch.allclose(seen[1], (lengths - 2).square().mean())


def test_path_lengths_are_scored_in_w_and_within_classes() -> None:
    model = build(ImageSpec(1, 16, 16, ("a", "b")), conditional=True).eval()
    spaces, decode = set(), model.decode

    def watched(latents: Tensor, labels: list[int], **asked: Any) -> Tensor:
        spaces.update((asked["space"], label, latents.shape[1]) for label in labels)
        return decode(latents, labels, **asked)

    model.decode = watched  # type: ignore[method-assign]
    paths = path_length_of(model, ModelExtractor(CNN(model.spec, width=4)))
    assert paths is not None and min(paths.compute()) > 0
    assert paths.settings["space"] == "w" and spaces == {("w", 0, 8), ("w", 1, 8)}


def test_parts_of_a_batch_give_what_the_whole_gives(tmp_path: Path) -> None:
    """The running mean of path lengths, too, which is kept between steps."""

    def weights(parts: int) -> dict[str, Tensor]:
        def make(batch_size: int) -> tuple[StyleGAN2, NoiseImages]:
            model = build(ImageSpec(1, 16, 16), path_length_every=1, r1_every=1)
            model.engine = Engine(micro_batches=parts)
            return model, NoiseImages(channels=1, height=16, width=16, batch_size=batch_size)

        saved: dict[str, Tensor] = train(make, 8, 2, tmp_path / str(parts), precision="64-true").saved["state_dict"]
        return saved

    whole, halves = weights(1), weights(2)
    assert whole["path_length_mean"] > 0
    for name, value in whole.items():
        assert torch.allclose(value, halves[name], rtol=1e-9, atol=1e-9), name
