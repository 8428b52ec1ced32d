import math

import pytest
import torch
from aigc_lightning.errors import UserError

from aigc_autoregressive.tokenizers import VQGAN, FiniteScalarQuantizer, MultiScaleQuantizer, VectorQuantizer
from aigc_autoregressive.tokenizers.usage import counts, dead_codes, perplexity, usage

SMALL = {"latent_channels": 16, "width": 8, "multipliers": (1, 2), "num_blocks": 1, "attention_levels": (1,)}


@pytest.mark.parametrize(("num_codes", "expected"), [(1024, 72_141_699), (16384, 76_073_859)])
def test_parameters_of_the_papers_tokenizers(num_codes, expected):
    with torch.device("meta"):
        model = VQGAN(3, VectorQuantizer(num_codes, 256, "loss"))
    assert model.factor == 16
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("quantizer", ["vq", "fsq", "multi_scale"])
def test_images_of_any_kind_become_tokens_and_images_again(channels, quantizer):
    made = {
        "vq": lambda: VectorQuantizer(32, 8),
        "fsq": lambda: FiniteScalarQuantizer([4, 4]),
        "multi_scale": lambda: MultiScaleQuantizer(32, 8, [(1, 1), (3, 2), (6, 4)]),
    }[quantizer]()
    model = VQGAN(channels, made, **SMALL).eval()
    images = torch.rand(2, channels, 12, 8) * 2 - 1
    decoded, quantized = model(images)
    assert decoded.shape == images.shape and model.latent_size(12, 8) == (6, 4)
    torch.testing.assert_close(model.decode_tokens(quantized.indices, (6, 4)), decoded, rtol=1e-3, atol=1e-4)


def test_gradients_reach_the_whole_tokenizer():
    model = VQGAN(1, VectorQuantizer(32, 8, "loss"), **SMALL)
    decoded, quantized = model(torch.rand(2, 1, 8, 8))
    (decoded.square().mean() + quantized.loss).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert model.last_layer.grad.shape == (1, 8, 3, 3)


def test_sizes_that_the_levels_do_not_divide_are_refused():
    model = VQGAN(1, VectorQuantizer(32, 8), **SMALL)
    with pytest.raises(UserError, match="13x8 pixels") as caught:
        model.encode(torch.zeros(1, 1, 13, 8))
    assert "multiples of 2" in caught.value.hint


def test_usage_of_a_codebook():
    found = counts(torch.tensor([[0, 0, 2], [2, 0, 0]]), num_codes=4)
    assert found.tolist() == [4, 0, 2, 0]
    assert usage(found).item() == 0.5
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert perplexity(found).item() == pytest.approx(math.exp(entropy))
    assert dead_codes(found).tolist() == [1, 3]
    assert perplexity(torch.ones(4)).item() == pytest.approx(4)
    assert perplexity(torch.tensor([0, 9])).item() == 1
