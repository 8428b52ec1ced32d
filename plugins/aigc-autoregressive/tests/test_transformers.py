"""Transformers: what each token may see, their likelihoods against enumeration, and their parameters."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.likelihood import bits_per_dim
from torch import Tensor, nn

from aigc_autoregressive.levels import to_images, to_tokens
from aigc_autoregressive.tokenizers import MultiScaleQuantizer
from aigc_autoregressive.tokenizers.multi_scale import SCALES
from aigc_autoregressive.transformers import VAR, Condition, ImageGPT, MaskGIT
from aigc_autoregressive.transformers.attention import Attention, rotated, rotations
from aigc_autoregressive.transformers.conditioning import Prefix
from aigc_autoregressive.transformers.likelihood import token_log_prob
from aigc_autoregressive.transformers.maskgit import mask_counts, masked_loss, training_mask

SMALL = {"width": 16, "depth": 2, "num_heads": 2}
#: All kinds of `ImageGPT`.
GPTS = {
    "llama": {},
    "classes": {"num_classes": 3},
    "context": {"context_width": 5, "context_length": 3},
    "qk_norm": {"qk_norm": True, "num_classes": 3},
    "learned": {"position": "learned", "mlp": "gelu"},
    "channels": {"channels": 3},
    "channels, learned": {"channels": 3, "position": "learned"},
}


def shaken(model: nn.Module, amount: float = 0.3) -> nn.Module:
    """Return the model in float64 with weights far from their start."""
    for parameter in model.parameters():
        parameter.data += amount * torch.randn_like(parameter)
    return model.double().eval()


def image_gpt(kind: str, grid: tuple[int, int] = (2, 3), num_codes: int = 5) -> ImageGPT:
    return shaken(ImageGPT(num_codes, grid, **SMALL, **GPTS[kind]))


def var(scales: list[tuple[int, int]], num_codes: int = 5, **options: int) -> tuple[VAR, MultiScaleQuantizer]:
    quantizer = shaken(MultiScaleQuantizer(num_codes, 4, scales))
    quantizer.codebook.codes.normal_()
    return shaken(VAR(num_codes, 4, scales, **SMALL, **options)), quantizer


def condition(batch: int, *, classes: bool = True, context: bool = True) -> Condition:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (batch,), generator=generator)
    tokens = torch.randn(batch, 3, 5, generator=generator).double()
    present = torch.arange(3) <= torch.arange(batch)[:, None]  # contexts of one token, of two, and so on
    summary = torch.randn(batch, SMALL["width"], generator=generator).double()
    return Condition(labels if classes else None, *((tokens, present, None, summary) if context else ()))


def gpt_condition(kind: str, batch: int) -> Condition:
    return condition(batch, classes="num_classes" in GPTS[kind], context="context_length" in GPTS[kind])


def slopes(output: Tensor, inputs: Tensor) -> Tensor:
    """Return how strongly each output row of the first picture depends on each input row, (outputs, inputs)."""
    rows = [torch.autograd.grad(row.square().sum(), inputs, retain_graph=True)[0][0] for row in output[0]]
    return torch.stack(rows).abs().sum(-1)


# ---- parameters


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ImageGPT(16384, (16, 16), num_classes=1000), 110_888_448),  # LlamaGen-B
        (lambda: MaskGIT(1024, 256, num_classes=1000), 172_457_193),
        (lambda: VAR(4096, 32, SCALES, num_classes=1000), 310_283_520),  # VAR-d16
    ],
)
def test_parameters_of_the_papers_models(make, expected):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in make().parameters()) == expected


# ---- causality


@pytest.mark.parametrize("kind", GPTS)
def test_image_gpt_sees_all_tokens_before_and_none_after(kind):
    model = image_gpt(kind)
    embedded: list[Tensor] = []
    model.codes.register_forward_hook(lambda layer, inputs, output: embedded.append(output.detach().requires_grad_()))
    model.codes.register_forward_hook(lambda layer, inputs, output: embedded[-1])
    tokens = torch.randint(5, (2, model.num_tokens))
    found = slopes(model(tokens, gpt_condition(kind, 2)), embedded[0])  # (N, N - 1)
    before = torch.ones(model.num_tokens, model.num_tokens - 1).tril(-1).bool()
    assert (found[~before] == 0).all() and (found[before] > 0).all()


def test_var_sees_all_scales_before_and_nothing_else():
    scales = [(1, 1), (1, 2), (2, 3)]
    model, quantizer = var(scales, num_classes=3, context_width=5, context_length=3)
    tokens = torch.randint(5, (2, 9))
    inputs = quantizer.next_inputs(tokens).detach().requires_grad_()
    found = slopes(model(inputs, condition(2)), inputs)  # (9, 8)
    scale_of_output, scale_of_input = torch.tensor([0] + [1] * 2 + [2] * 6), torch.tensor([1] * 2 + [2] * 6)
    seen = scale_of_output[:, None] >= scale_of_input  # inputs are the sums of the scales before theirs
    assert (found[~seen] == 0).all() and (found[seen] > 0).all()


def test_the_inputs_of_a_scale_come_from_the_scales_before():
    _, quantizer = var([(1, 1), (1, 2), (2, 3)])
    tokens = torch.randint(5, (1, 9))
    inputs = quantizer.next_inputs(tokens)
    for place, first in [(0, 0), (1, 2), (3, 8)]:  # a change of a token, and the first input that may change
        changed = tokens.clone()
        changed[0, place] = (tokens[0, place] + 1) % 5
        same = (quantizer.next_inputs(changed) == inputs).all(-1)[0]
        assert same[:first].all() and not same[first : first + 2].any() if first < 8 else same.all()


def test_maskgit_sees_all_tokens_but_those_that_are_masked():
    model = shaken(MaskGIT(5, 6, **SMALL, num_classes=3, context_width=5, context_length=3))
    tokens = torch.randint(5, (1, 6))
    tokens[0, [1, 4]] = model.mask_token
    logits = model(tokens, condition(1))
    for place in range(6):
        changed = tokens.clone()
        changed[0, place] = (tokens[0, place] + 1) % 5
        assert (model(changed, condition(1)) != logits).any(-1).all()
    assert logits.shape == (1, 6, 5)


@pytest.mark.parametrize("kind", ["image_gpt", "maskgit", "var"])
def test_conditions_matter_and_may_be_dropped(kind):
    options = {"num_classes": 3, "context_width": 5, "context_length": 3}
    tokens = torch.randint(5, (2, 9))
    if kind == "var":
        transformer, quantizer = var([(1, 1), (1, 2), (2, 3)], **options)
        inputs = quantizer.next_inputs(tokens)
    else:
        made = ImageGPT(5, (3, 3), **SMALL, **options) if kind == "image_gpt" else MaskGIT(5, 9, **SMALL, **options)
        transformer, inputs = shaken(made), tokens
    given = condition(2)
    plain = transformer(inputs, given)
    assert not torch.allclose(transformer(inputs, replace(given, labels=(given.labels + 1) % 3)), plain)
    assert not torch.allclose(transformer(inputs, replace(given, context=given.context + 1)), plain)
    assert not torch.allclose(transformer(inputs, replace(given, summary=-given.summary)), plain)
    padded = given.context.masked_fill(~given.present.unsqueeze(-1), 7.0)
    torch.testing.assert_close(transformer(inputs, replace(given, context=padded)), plain, rtol=1e-10, atol=1e-10)
    dropped = replace(given, dropped=torch.tensor([False, True]))
    mixed, nothing = transformer(inputs, dropped), transformer(inputs)
    assert torch.allclose(mixed[0], plain[0]) and torch.allclose(mixed[1], nothing[1])
    assert not torch.allclose(nothing, plain)


def test_a_picture_does_not_depend_on_the_other_prompts_length():
    prefix = shaken(Prefix(4, context_width=5, context_length=3))
    context = torch.randn(2, 2, 5).double()
    present = torch.tensor([[True, False], [True, True]])
    together, seen = prefix(Condition(context=context, present=present), 2)
    alone, seen_alone = prefix(Condition(context=context[:1, :1]), 1)
    assert seen.tolist() == [[True, False, False, True], [True, True, False, True]]
    assert torch.equal(seen[:1], seen_alone) and torch.allclose(together[:1][seen_alone], alone[seen_alone])
    assert together.shape == (2, 4, 4)
    none, seen_none = prefix(Condition(context=context, present=torch.zeros_like(present)), 2)
    assert torch.equal(none, prefix(Condition(), 2)[0]) and seen_none.tolist() == [[True, False, False, True]] * 2
    with pytest.raises(UserError, match="4 tokens and the model takes 3"):
        prefix(Condition(context=torch.zeros(1, 4, 5).double()), 1)


@pytest.mark.parametrize("kind", ["image_gpt", "maskgit", "var"])
def test_conditions_that_a_model_was_not_made_for_are_refused(kind):
    tokens = torch.randint(5, (2, 6))
    transformer, inputs = {
        "image_gpt": lambda: (ImageGPT(5, (2, 3), **SMALL).double(), tokens),
        "maskgit": lambda: (MaskGIT(5, 6, **SMALL).double(), tokens),
        "var": lambda: (var([(1, 1), (1, 5)])[0], torch.zeros(2, 5, 4).double()),
    }[kind]()
    with pytest.raises(UserError, match="without classes"):
        transformer(inputs, condition(2, context=False))
    with pytest.raises(UserError, match="without context"):
        transformer(inputs, condition(2, classes=False))


# ---- likelihoods


@pytest.mark.parametrize("kind", ["llama", "learned", "classes"])
def test_image_gpt_gives_all_images_of_4_tokens_probability_1(kind):
    model = image_gpt(kind, grid=(2, 2), num_codes=4)
    tokens = torch.tensor(list(itertools.product(range(4), repeat=4)))
    with torch.no_grad():
        log_prob = model.log_prob(tokens)
    assert log_prob.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)
    # the last token's conditional, from the joint table
    joint = log_prob.sum(1).exp().view(64, 4)
    torch.testing.assert_close(log_prob[:, 3].exp().view(64, 4), joint / joint.sum(1, keepdim=True))


def test_bits_per_dim_of_image_gpt_over_pixels_agree_with_enumeration():
    """Of images of 1x2 pixels, three channels and 3 levels; the mean of the bits is the entropy of the table."""
    model = image_gpt("channels", grid=(1, 2), num_codes=3)
    levels = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 3, 1, 2)
    with torch.no_grad():
        log_prob = model.log_prob(to_tokens(to_images(levels, 3), num_levels=3)).sum(1)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    entropy = torch.distributions.Categorical(probs=log_prob.exp()).entropy() / math.log(2)
    bits = (log_prob.exp() * bits_per_dim(log_prob, num_dims=6)).sum()
    assert bits.item() == pytest.approx(entropy.item() / 6, rel=1e-10)


def test_var_gives_all_token_maps_probability_1():
    model, quantizer = var([(1, 1), (2, 2)], num_codes=3, num_classes=3)
    tokens = torch.tensor(list(itertools.product(range(3), repeat=5)))
    given = Condition(labels=torch.ones(len(tokens), dtype=torch.int64))
    with torch.no_grad():
        log_prob = model.log_prob(quantizer.next_inputs(tokens), tokens, given)
    assert log_prob.sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_first_losses_are_about_the_logarithm_of_the_number_of_codes():
    torch.manual_seed(0)
    tokens = torch.randint(64, (4, 16))
    shape = {"width": 64, "depth": 2, "num_heads": 4, "num_classes": 3}
    labels = Condition(labels=torch.tensor([0, 1, 2, 0]))
    gpt, maskgit = ImageGPT(64, (4, 4), **shape), MaskGIT(64, 16, **shape)
    assert -gpt.log_prob(tokens, labels).mean().item() == pytest.approx(math.log(64), abs=1e-5)
    masked = torch.rand(4, 16) < 0.5
    loss = masked_loss(maskgit(tokens.masked_fill(masked, 64), labels), tokens, masked)
    assert loss.sum().item() / masked.sum() * 16 * 2 / math.pi == pytest.approx(math.log(64), abs=0.3)
    quantizer = MultiScaleQuantizer(64, 4, [(1, 1), (2, 2), (4, 4)])
    tokens = torch.randint(64, (4, 21))
    var = VAR(64, 4, quantizer.scales, **shape)
    loss = -var.log_prob(quantizer.next_inputs(tokens), tokens, labels).mean()
    assert loss.item() == pytest.approx(math.log(64), abs=0.05)


def test_log_probabilities_of_half_precision_logits_are_exact():
    logits = torch.randn(2, 3, 5).bfloat16()
    tokens = torch.randint(5, (2, 3))
    expected = logits.float().log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(token_log_prob(logits, tokens), expected)


# ---- caches


@pytest.mark.parametrize("kind", GPTS)
def test_image_gpt_with_caches_equals_without(kind):
    model = image_gpt(kind)
    tokens, given = torch.randint(5, (2, model.num_tokens)), gpt_condition(kind, 2)
    with torch.no_grad():
        expected = model(tokens, given)
        caches = model.caches()
        found = [model.start(caches, 2, given)]
        found += [model.step(caches, tokens[:, place], place) for place in range(model.num_tokens - 1)]
    torch.testing.assert_close(torch.stack(found, dim=1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context_length", [0, 3])
def test_var_with_caches_equals_without(context_length):
    scales = [(1, 2), (2, 3), (4, 3)]
    model, quantizer = var(scales, num_classes=3, context_width=5, context_length=context_length)
    tokens, given = torch.randint(5, (2, 20)), condition(2, context=context_length > 0)
    inputs = quantizer.next_inputs(tokens)
    with torch.no_grad():
        expected = model(inputs, given)
        caches, parts = model.caches(), [None, *inputs.split([6, 12], dim=1)]
        found = [model.step(caches, scale, part, 2, given) for scale, part in enumerate(parts)]
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=1e-10, atol=1e-10)


# ---- parts


def test_rotary_positions_make_scores_depend_on_the_distance_alone():
    places = [(row, column) for row in range(4) for column in range(5)]
    rotation = rotations(places, 8).double()
    queries, keys = torch.randn(8).double(), torch.randn(8).double()
    turned = [rotated(part.expand(1, 20, 1, 8), rotation)[0, :, 0] for part in (queries, keys)]
    scores = turned[0] @ turned[1].T
    by_distance: dict[tuple[int, int], list[float]] = {}
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        by_distance.setdefault((a[0] - b[0], a[1] - b[1]), []).append(scores[i, j].item())
    for values in by_distance.values():
        assert values == pytest.approx([values[0]] * len(values), abs=1e-5)
    means = [values[0] for values in by_distance.values()]
    assert len({round(mean, 6) for mean in means}) == len(means)
    assert torch.allclose(turned[0].norm(dim=1), queries.norm().expand(20))
    assert torch.equal(turned[0][0], queries)


def test_bad_shapes_of_heads_are_refused():
    with pytest.raises(UserError, match="10 cannot be split into 4 heads"):
        Attention(10, 4, bias=True)
    with pytest.raises(UserError, match="not of 6"):
        ImageGPT(5, (2, 2), width=12, num_heads=2)
    ImageGPT(5, (2, 2), width=12, num_heads=2, position="learned")


def test_the_swiglu_has_the_weights_of_a_gelu():
    sizes = [
        sum(
            parameter.numel() for parameter in ImageGPT(5, (2, 2), mlp=mlp, width=96, depth=1, num_heads=2).parameters()
        )
        for mlp in ("swiglu", "gelu")
    ]
    assert sizes[0] == sizes[1]


# ---- MaskGIT


def test_mask_counts_of_the_paper():
    assert mask_counts(256, 8) == [251, 236, 212, 181, 142, 97, 49, 0]


def test_training_masks_the_first_of_an_order_by_a_cosine():
    order = torch.rand(5, 256)
    masked = training_mask(torch.tensor([0.0, 0.5, 0.6, 0.99999, 0.25]), order)
    assert masked.sum(1).tolist() == [256, 182, 151, 1, 237]
    assert (order[1][masked[1]].max() < order[1][~masked[1]].min()).item()


def test_the_loss_is_that_of_masked_tokens_alone():
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 4, 5), torch.randint(5, (2, 4))
    masked = torch.tensor([[True, False, False, True], [False, True, False, False]])
    losses = nn.functional.cross_entropy(logits[masked], tokens[masked], reduction="none", label_smoothing=0.1)
    expected = torch.stack([losses[:2].sum(), losses[2]]) / (4 * 2 / math.pi)
    logits.requires_grad_()
    loss = masked_loss(logits, tokens, masked, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert (logits.grad[~masked] == 0).all() and (logits.grad[masked] != 0).all()
