"""Networks: sizes as published, shapes, conditions, and parts against naive ones."""

import math
from collections.abc import Callable

import pytest
import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_diffusion.denoiser import Denoiser
from aigc_diffusion.networks import SIZES, ConditionedNetwork, Conditions, DiT, UNet
from aigc_diffusion.networks.attention import Attention
from aigc_diffusion.networks.dit import DiTBlock
from aigc_diffusion.networks.embedding import fixed_positions, rotate, rotations, wave_features
from aigc_diffusion.networks.unet_blocks import STYLES, ImageAttention, ResidualBlock
from aigc_diffusion.processes import FlowMatching, MeanFlow

Make = Callable[..., nn.Module]


def unet(style: str = "adm", channels: int = 1, **options: object) -> UNet:
    return UNet(channels, 8, (1, 2), 1, (1,), style, **options)  # type: ignore[arg-type]


def dit(positions: str = "fixed", channels: int = 1, **options: object) -> DiT:
    return DiT(channels, 2, 2, 16, 2, positions=positions, **options)  # type: ignore[arg-type]


NETWORKS: dict[str, Make] = {
    **{style: lambda style=style, **options: unet(style, **options) for style in STYLES},
    "adm in patches": lambda **options: unet("adm", patch_size=2, **options),
    "dit": lambda **options: dit("fixed", **options),
    "dit rotary": lambda **options: dit("rotary", qk_norm=True, **options),
}


def awake(network: nn.Module) -> nn.Module:
    """Give random weights to what starts at zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_unets_have_the_published_sizes() -> None:
    with torch.device("meta"):
        assert parameters(UNet(3, 128, (1, 2, 2, 2), 2, (1,), "ddpm")) == 35_746_307
        for num_classes, expected in ((0, 55_733_891), (10, 55_735_299)):
            edm = UNet(3, 128, (2, 2, 2), 4, (1,), "ddpmpp", augmentation_size=9, num_classes=num_classes)
            assert parameters(edm) == expected
        adm = UNet(3, 192, (1, 2, 3, 4), 3, (1, 2, 3), "adm", output_channels=6, num_classes=1000)
        assert parameters(adm) == 295_904_454


@pytest.mark.parametrize(
    ("size", "patch_size", "expected"),
    [
        ("S", 2, 32_963_360),
        ("S", 4, 32_945_024),
        ("S", 8, 33_148_160),
        ("B", 2, 130_512_416),
        ("B", 4, 130_475_648),
        ("B", 8, 130_881_536),
        ("L", 2, 458_102_816),
        ("XL", 2, 675_129_632),
    ],
)
def test_dits_have_the_published_sizes(size: str, patch_size: int, expected: int) -> None:
    with torch.device("meta"):
        network = DiT(4, patch_size, *SIZES[size], output_channels=8, num_classes=1000)
    positions = (32 // patch_size) ** 2 * SIZES[size].width  # the paper's code keeps the fixed table as a parameter
    assert parameters(network) + positions == expected


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(8, 8), (12, 20), (7, 10), (5, 3), (1, 1)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    network = awake(NETWORKS[name](channels=3))
    outputs = network(torch.randn(2, 3, *size), torch.rand(2, 1))
    assert outputs.shape == (2, 3, *size) and torch.isfinite(outputs).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_conditions_matter_and_their_absence_is_neutral(name: str) -> None:
    options = {"num_classes": 3, "text_size": 6, "extra_channels": 2, "augmentation_size": 9, "level_size": 2}
    network = awake(NETWORKS[name](**options))
    draw = torch.Generator().manual_seed(1)
    state, level = torch.randn(2, 1, 8, 8, generator=draw), 100 * torch.rand(2, 2, generator=draw)
    base = {
        "labels": torch.tensor([0, 1]),
        "text": torch.randn(2, 5, 6, generator=draw),
        "text_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        "pooled_text": torch.randn(2, 6, generator=draw),
        "image": torch.randn(2, 2, 8, 8, generator=draw),
        "augmentation": torch.randn(2, 9, generator=draw),
    }
    outputs = network(state, level, Conditions(**base))
    changes = {
        "labels": torch.tensor([2, 3]),
        "text": -base["text"],
        "text_mask": torch.tensor([[True] * 4 + [False], [True] * 2 + [False] * 3]),
        "pooled_text": -base["pooled_text"],
        "image": -base["image"],
        "augmentation": -base["augmentation"],
    }
    for field, value in changes.items():
        changed = network(state, level, Conditions(**{**base, field: value}))
        assert ((changed - outputs).abs().amax(dim=(1, 2, 3)) > 1e-6).all(), field
    for column in range(2):
        moved = level.clone()
        moved[:, column] += 50
        assert ((network(state, moved, Conditions(**base)) - outputs).abs().amax(dim=(1, 2, 3)) > 1e-6).all()
    # What is behind the mask is not seen, and zeros stand for images that were not augmented.
    hidden = base["text"].clone()
    hidden[1, 3:] = 100.0
    assert torch.equal(network(state, level, Conditions(**{**base, "text": hidden})), outputs)
    none = network(state, level, Conditions(**{**base, "augmentation": None}))
    assert torch.equal(network(state, level, Conditions(**{**base, "augmentation": torch.zeros(2, 9)})), none)


@pytest.mark.parametrize("name", NETWORKS)
def test_samples_do_not_see_each_other(name: str) -> None:
    network = awake(NETWORKS[name](num_classes=3))
    state, level, labels = torch.randn(4, 1, 8, 8), torch.rand(4, 1), torch.tensor([0, 1, 2, 3])
    outputs = network(state, level, Conditions(labels=labels))
    others = torch.cat([state[:2], 9 * state[2:]])
    assert torch.equal(network(others, level, Conditions(labels=labels))[:2], outputs[:2])
    alone = network(state[1:2], level[1:2], Conditions(labels=labels[1:2]))
    assert torch.allclose(alone[0], outputs[1], atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name: str) -> None:
    network = awake(NETWORKS[name](num_classes=3, text_size=6, extra_channels=1, augmentation_size=9)).train()
    conditions = Conditions(
        labels=torch.tensor([0, 1]),
        text=torch.randn(2, 4, 6),
        pooled_text=torch.randn(2, 6),
        image=torch.randn(2, 1, 8, 8),
        augmentation=torch.randn(2, 9),
    )
    network(torch.randn(2, 1, 8, 8), torch.rand(2, 1), conditions).square().mean().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_blocks_start_as_the_identity() -> None:
    tokens, features = torch.randn(2, 6, 16), torch.randn(2, 16, 4, 4)
    fresh = dit(text_size=6).blocks[0]
    assert isinstance(fresh, DiTBlock)
    conditions = Conditions(text=torch.randn(2, 3, 6))
    assert torch.equal(fresh(tokens, torch.randn(2, 16), conditions, None), tokens)
    embedding = torch.randn(2, 8)
    for style in (STYLES["ddpm"], STYLES["adm"], STYLES["light"]):
        assert torch.allclose(ResidualBlock(16, 16, 8, style, "none", 0.0)(features, embedding), features, atol=0.3)
        assert torch.allclose(ImageAttention(16, style, 6)(features, conditions), features, atol=0.3)
    for name, make in NETWORKS.items():
        assert make()(features[:, :1], torch.rand(2, 1)).abs().max() < 0.2, name


@pytest.mark.parametrize("options", [{}, {"text": True}, {"text": True, "mask": True}, {"qk_norm": True, "text": True}])
@pytest.mark.parametrize("rotary", [False, True])
def test_attention_is_the_naive_one(options: dict[str, bool], rotary: bool) -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2, 6 if "text" in options else 0, qk_norm="qk_norm" in options).double()
    tokens = torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)
    text = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True) if "text" in options else None
    mask = torch.tensor([[True, True, False], [True, False, False]]) if "mask" in options else None
    rotation = rotations(2, 3, 4, torch.float64, tokens.device) if rotary else None
    leaves = [tokens, *([text] if text is not None else []), *layer.parameters()]
    weights = torch.randn(2, 6, 8, dtype=torch.float64)
    fast, slow = layer(tokens, text, mask, rotation), naive_attention(layer, tokens, text, mask, rotary)
    assert torch.allclose(fast, slow)
    gradients = [torch.autograd.grad((weights * outputs).sum(), leaves) for outputs in (fast, slow)]
    for mine, naive in zip(*gradients, strict=True):
        assert torch.allclose(mine, naive, atol=1e-10)


def naive_attention(layer: Attention, tokens: Tensor, text: Tensor | None, mask: Tensor | None, rotary: bool) -> Tensor:
    """A sum for each sample, head and query, with complex numbers for the rotations."""
    outputs = torch.zeros_like(tokens)
    rows = []
    for sample in range(len(tokens)):
        query, key, value = layer.qkv(tokens[sample]).split(8, dim=-1)
        sources = [(key, value, None)]
        if text is not None and layer.text_kv is not None:
            shown = text[sample] if mask is None else text[sample][mask[sample]]
            sources.append((*layer.text_kv(shown).split(8, dim=-1), "text"))
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            places = [(row, column) for row in range(2) for column in range(3)]
            keys, values = [], []
            for source_key, source_value, kind in sources:
                for place in range(len(source_key)):
                    one = layer.key_norm(source_key[place, part])
                    keys.append(turned(one, places[place]) if rotary and kind is None else one)
                    values.append(source_value[place, part])
            one_head = []
            for place in range(6):
                one = layer.query_norm(query[place, part])
                one = turned(one, places[place]) if rotary else one
                share = torch.stack([(one * other).sum() / 4**0.5 for other in keys]).softmax(dim=0)
                one_head.append(sum(weight * other for weight, other in zip(share, values, strict=True)))
            heads.append(torch.stack(one_head))  # type: ignore[arg-type]
        rows.append(layer.last(torch.cat(heads, dim=-1)))
    return outputs + torch.stack(rows)


def turned(features: Tensor, place: tuple[int, int]) -> Tensor:
    """The first pair by the row, the second by the column; heads of 4 have one frequency, 1, for each."""
    pairs = torch.complex(features[:2], features[2:]) * torch.polar(
        torch.ones(2, dtype=torch.float64), torch.tensor(place, dtype=torch.float64)
    )
    return torch.cat([pairs.real, pairs.imag])


def test_positions() -> None:
    features = fixed_positions(3, 5, 16, torch.float32, torch.device("cpu"))
    assert features.shape == (15, 16)
    assert torch.allclose(features[7, :8], wave_features(torch.tensor(2.0), 8))  # the column of token 7
    assert torch.allclose(features[7, 8:], wave_features(torch.tensor(1.0), 8))  # its row
    waves = wave_features(torch.tensor(3.0), 4)
    assert waves.tolist() == pytest.approx([math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)])
    # Products of rotated queries and keys depend on the difference of their places alone.
    query, key = torch.randn(2, 8)
    rotation = rotations(6, 6, 8, torch.float32, torch.device("cpu"))
    turned_query, turned_key = (rotate(part.expand(36, 8), rotation).view(6, 6, 8) for part in (query, key))
    product = (turned_query[1, 2] * turned_key[3, 3]).sum()
    assert torch.allclose((turned_query[2, 4] * turned_key[4, 5]).sum(), product, atol=1e-5)
    assert not torch.allclose((turned_query[2, 4] * turned_key[5, 4]).sum(), product, atol=1e-3)


def test_channels_that_are_no_powers_of_two() -> None:
    for width in (10, 28, 56):
        network = awake(UNet(1, width, (1, 2), 1, (1,), "light"))
        assert torch.isfinite(network(torch.randn(2, 1, 8, 8), torch.rand(2, 1))).all()


def test_dit_knows_where_its_patches_are() -> None:
    for positions in ("fixed", "rotary"):
        network = awake(dit(positions))
        state, level = torch.randn(1, 1, 4, 8), torch.rand(1, 1)
        moved = network(state.roll(4, dims=3), level).roll(-4, dims=3)
        assert not torch.allclose(moved, network(state, level), atol=1e-4), positions


@pytest.mark.parametrize("name", ["ddpm", "adm in patches", "dit", "dit rotary"])
def test_mean_flow_derivative(name: str) -> None:
    """The target's derivative against a difference, with attention that has text in it."""
    process = MeanFlow(flow_share=0.0)
    network = awake(NETWORKS[name](level_size=2, text_size=6)).double()
    draw = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 1, 8, 8, generator=draw, dtype=torch.float64)
    conditions = Conditions(text=torch.randn(3, 3, 6, generator=draw, dtype=torch.float64))
    times = torch.tensor([[0.8, 0.3], [0.6, 0.6], [0.5, 0.1]], dtype=torch.float64)

    def slower(state: Tensor, level: Tensor, conditions: Conditions) -> Tensor:
        return network(state, level / 1000, conditions)  # slower waves, for the difference

    predict = ConditionedNetwork(slower, conditions)
    errors = process.errors(predict, x0, eps, times)
    step, (t, s) = 1e-5, times.T
    before, after = (
        predict(process.noised(x0, eps, t + shift), process.level(t + shift, s)) for shift in (-step, step)
    )
    u = predict(process.noised(x0, eps, t), process.level(t, s))
    target = (eps - x0) - (t - s)[:, None, None, None] * (after - before) / (2 * step)
    assert torch.allclose(errors, (u - target.detach()).square().flatten(1).mean(dim=1), rtol=1e-6)
    gradients = torch.autograd.grad(errors.sum(), list(network.parameters()), allow_unused=True)
    expected = torch.autograd.grad(
        (u - target.detach()).square().flatten(1).mean(dim=1).sum(), list(network.parameters()), allow_unused=True
    )
    for mine, exact in zip(gradients, expected, strict=True):
        assert (mine is None) == (exact is None)
        assert mine is None or exact is None or torch.allclose(mine, exact, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["adm in patches", "dit"])
def test_a_network_learns_its_labels(name: str) -> None:
    """Black and white images: pure noise is denoised to the mean of its class, which the label alone can tell."""
    torch.manual_seed(0)
    network, process = NETWORKS[name](num_classes=2), FlowMatching()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    for _ in range(60):
        labels = torch.randint(0, 2, (16,))
        x0 = (2.0 * labels - 1)[:, None, None, None].expand(16, 1, 8, 8)
        predict = ConditionedNetwork(network, Conditions(labels=labels))
        loss = process.errors(predict, x0, torch.randn(16, 1, 8, 8), torch.rand(16, 1).double()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    labels = torch.tensor([0, 1]).repeat(8)
    predict = ConditionedNetwork(network, Conditions(labels=labels))
    denoised = Denoiser(process, predict)(torch.randn(16, 1, 8, 8), 1.0, 1.0).x0.mean(dim=(1, 2, 3))
    assert denoised[::2].mean() < -0.5 and denoised[1::2].mean() > 0.5, denoised


def test_refusals() -> None:
    with pytest.raises(UserError, match="no level 2"):
        UNet(1, 8, (1, 2), 1, (2,))
    with pytest.raises(UserError, match="width 7"):
        UNet(1, 7, (1, 2), 1, (1,))
    with pytest.raises(UserError, match="'edm'"):
        UNet(1, 8, (1, 2), 1, (1,), "edm")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'learned'"):
        DiT(1, 2, positions="learned")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="width 20"):
        DiT(1, 2, 1, 20, 3)
    with pytest.raises(UserError, match="rotary"):
        DiT(1, 2, 1, 12, 2, positions="rotary")
