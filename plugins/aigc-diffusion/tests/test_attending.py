"""Attention maps are those of the network, with the words of a prompt in their places."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.inference.explaining.attention import attended_words, word_map
from aigc_lightning.testing import capability_checks
from test_model import SPEC, made

from aigc_diffusion.networks.attention import Attention

TEXTS = {"size": 16, "depth": 1, "heads": 2, "max_length": 32}
CAPTIONED = ImageSpec(1, 10, 9, captions=True)  # padded to 12x12 by the U-Net, to 12x10 by the DiT
NETWORKS = {
    "unet": {"width": 8, "multipliers": [1, 2], "attention_levels": [0, 1], "style": "adm", "patch_size": 2},
    "dit": {"depth": 2, "width": 16, "heads": 2, "patch_size": 2},
}


def reader(network: str = "unet", **options):
    chosen = {"network_options": NETWORKS[network], "text_options": TEXTS, **options}
    return made(CAPTIONED, network=network, conditions="prompts", **chosen)


@pytest.mark.parametrize("process", ["flow", "edm", "vp", "mean_flow"])
@pytest.mark.parametrize("network", NETWORKS)
def test_maps_are_shares_of_words_and_places(network, process):
    model = reader(network, process=process)
    images = torch.rand(2, 1, 10, 9) * 2 - 1
    maps = model.attention_maps(images, prompts=["two c\u0153urs", ""], noise=0.3)
    assert set(maps) == set(model.attention_grid)
    for name, weights in maps.items():
        places = math.prod(model.attention_grid[name])
        assert weights.shape[2:] == (places, TEXTS["max_length"] + places)
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
        assert (weights[0, :, :, :11] > 0).all() and not weights[0, :, :, 11:32].any()  # a start and ten bytes
        assert not weights[1, :, :, 1:32].any()
    assert model.attention_extent == ((12, 12) if network == "unet" else (10, 10))
    assert all(attention.seen is None for attention, _ in model._attentions().values())


@pytest.mark.parametrize("network", NETWORKS)
def test_the_kit_finds_words_and_maps(network):
    case: Any = SimpleNamespace(load=lambda: reader(network))
    capability_checks.maps_its_attention(case)
    capability_checks.looks_at_words(case)


@pytest.mark.parametrize("with_text", [False, True])
def test_a_naive_attention_agrees(with_text):
    torch.manual_seed(0)
    layer, tokens = Attention(8, 2, text_size=6, qk_norm=True), torch.randn(1, 5, 8)
    text = torch.randn(1, 3, 6) if with_text else None
    layer.seen = []
    result = layer(tokens, text, torch.tensor([[True, True, False]]) if with_text else None)
    (weights,) = layer.seen
    mixed = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        query, key, value = (block[0][:, part] for block in layer.qkv(tokens).chunk(3, dim=-1))
        query, key = layer.query_norm(query), layer.key_norm(key)
        if text is not None and layer.text_kv is not None:
            more, values = (block[0, :2][:, part] for block in layer.text_kv(text).chunk(2, dim=-1))
            key, value = torch.cat([key, layer.key_norm(more)]), torch.cat([value, values])
        rows = []
        for one in query:
            scores = torch.stack([(one * other).sum() / 2 for other in key]).exp()
            rows.append(scores / scores.sum())
        naive = torch.stack(rows)
        assert torch.allclose(weights[0, head, :, : len(key)], naive, atol=1e-6)
        assert not weights[0, head, :, len(key) :].any()
        mixed.append(naive @ value)
    assert torch.allclose(result[0], layer.last(torch.cat(mixed, dim=-1)), atol=1e-5)


def test_a_word_is_the_sum_of_its_bytes():
    model = reader()
    (image,) = images = torch.rand(1, 1, 10, 9) * 2 - 1
    prompt = "\u0434\u0432\u0430 circles"
    assert model.word_keys(prompt) == [("\u0434\u0432\u0430", range(1, 7)), ("circles", range(8, 15))]
    maps = model.attention_maps(images, prompts=[prompt])
    found = word_map(model, maps, range(1, 7))
    expected = torch.zeros(6, 6)
    for name, weights in maps.items():
        rows, columns = model.attention_grid[name]
        for row in range(6):
            for column in range(6):
                place = row * rows // 6 * columns + column * columns // 6
                expected[row, column] += weights[0, :, place, 1:7].sum() / weights.shape[1] / len(maps)
    assert torch.allclose(found, expected, atol=1e-6)
    part = attended_words(model, [image], ["a.png"], prompt, {"noise": 0.5})
    assert torch.allclose(torch.tensor(part.maps[1].values), expected, atol=1e-5)


def test_maps_depend_on_noise_class_and_image():
    model = made(SPEC, conditions="labels", network_options=NETWORKS["dit"], network="dit")
    images = torch.rand(1, 1, 8, 8) * 2 - 1
    given = model.attention_maps(images, [1])["block_1"]
    assert torch.equal(given, model.attention_maps(images, [1])["block_1"])
    others = [
        model.attention_maps(images, [2])["block_1"],
        model.attention_maps(images)["block_1"],
        model.attention_maps(images, [1], noise=0.1)["block_1"],
        model.attention_maps(-images, [1])["block_1"],
    ]
    assert not any(torch.allclose(given, other, atol=1e-5) for other in others)
    for noise in (0.0, 1.0):
        with pytest.raises(UserError, match="noise is"):
            model.attention_maps(images, noise=noise)
    with pytest.raises(UserError, match="without prompts"):
        model.attention_maps(images, prompts=["a"])
    with pytest.raises(UserError, match="never trained without labels"):
        made(SPEC, conditions="labels", condition_dropout=0.0).attention_maps(images)


def test_a_model_of_pairs_shows_how_it_denoises_its_results():
    model = made(ImageSpec(1, 8, 8, task="paired"))
    maps = model.attention_maps(torch.rand(1, 1, 8, 8))
    assert set(maps) == set(model.attention_grid)
