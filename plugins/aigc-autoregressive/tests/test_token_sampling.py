"""Tokens drawn from transformers: from their probabilities, each picture by its own seed."""

import itertools

import pytest
import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_autoregressive.noise import gumbel
from aigc_autoregressive.tokenizers import MultiScaleQuantizer
from aigc_autoregressive.transformers import (
    VAR,
    Choice,
    Condition,
    ImageGPT,
    MaskGIT,
    sample_image_gpt,
    sample_maskgit,
    sample_var,
)
from aigc_autoregressive.transformers.choice import guide
from aigc_autoregressive.transformers.maskgit import mask_counts

SCALES = [(1, 1), (2, 2), (3, 4)]
SMALL = {"width": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
KINDS = ["image_gpt", "maskgit", "var"]


def shaken(model: nn.Module) -> nn.Module:
    """Return the model with weights far from their start."""
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


class Sampler:
    """A small transformer of 17 tokens with its loop, in float64: batches of other sizes round otherwise."""

    def __init__(self, kind: str, num_codes: int = 6) -> None:
        self.kind, self.steps = kind, {"image_gpt": 17, "maskgit": 8, "var": 3}[kind]
        if kind == "image_gpt":
            self.model = shaken(ImageGPT(num_codes, (1, 17), **SMALL))
        elif kind == "maskgit":
            self.model = shaken(MaskGIT(num_codes, 17, **SMALL))
        else:
            self.quantizer = shaken(MultiScaleQuantizer(num_codes, 4, SCALES))
            self.quantizer.codebook.codes.normal_()
            self.quantizer.double()
            self.model = shaken(VAR(num_codes, 4, SCALES, **SMALL))
        self.model.double()

    def __call__(self, seeds: list[int], labels: list[int] | None = None, **options: object) -> Tensor:
        condition = Condition() if labels is None else Condition(labels=torch.tensor(labels))
        if self.kind == "var":
            return sample_var(self.model, self.quantizer, seeds, condition, **options)
        return {"image_gpt": sample_image_gpt, "maskgit": sample_maskgit}[self.kind](
            self.model, seeds, condition, **options
        )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_one_picture_in_any_batch(kind, guidance):
    sampler = Sampler(kind)
    together = sampler([4, 5, 6, 7], [0, 1, 2, 1], guidance=guidance)
    assert together.shape == (4, 17) and together.min() >= 0 and together.max() < 6
    assert torch.equal(sampler([5], [1], guidance=guidance)[0], together[1])
    assert torch.equal(sampler([7, 5], [1, 1], guidance=guidance), together[[3, 1]])
    assert len(together.unique(dim=0)) == 4
    first, second = (sampler(range(20), [label] * 20, guidance=guidance) for label in (1, 2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_given_tokens_stay(kind):
    sampler = Sampler(kind)
    tokens, given = torch.randint(6, (2, 17)), torch.rand(2, 17) < 0.4
    found = sampler([1, 2], known=(tokens, given))
    assert torch.equal(found[given], tokens[given])
    assert (found[~given] < 6).all()
    assert torch.equal(sampler([1, 2], known=(tokens, torch.ones_like(given))), tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_progress_tells_of_each_step_and_temperature_0_needs_no_seed(kind):
    sampler, seen = Sampler(kind), []
    options = {"choice_temperature": 0.0} if kind == "maskgit" else {}
    found = sampler([1, 2], choice=Choice(temperature=0), progress=lambda *numbers: seen.append(numbers), **options)
    assert torch.equal(found[0], found[1])
    assert seen == [(done, sampler.steps) for done in range(1, sampler.steps + 1)]


def test_image_gpt_draws_images_with_their_probabilities():
    model = shaken(ImageGPT(3, (2, 2), **SMALL))
    tokens = torch.tensor(list(itertools.product(range(3), repeat=4)))
    labels = torch.ones(len(tokens), dtype=torch.int64)
    with torch.no_grad():
        expected = model.log_prob(tokens, Condition(labels=labels)).sum(1).double().exp() * 20000
    drawn = sample_image_gpt(model, range(20000), Condition(labels=labels[:1].expand(20000)))
    assert chi_square_is_small(drawn, 3, expected)


def test_var_draws_token_maps_with_their_probabilities():
    quantizer = shaken(MultiScaleQuantizer(2, 4, [(1, 1), (2, 2)]))
    quantizer.codebook.codes.normal_()
    model = shaken(VAR(2, 4, quantizer.scales, **SMALL))
    tokens = torch.tensor(list(itertools.product(range(2), repeat=5)))
    with torch.no_grad():
        log_prob = model.log_prob(quantizer.next_inputs(tokens), tokens)
    assert chi_square_is_small(sample_var(model, quantizer, range(20000)), 2, log_prob.sum(1).double().exp() * 20000)


def chi_square_is_small(drawn: Tensor, num_codes: int, expected: Tensor) -> bool:
    """Return whether counts of all images are within the 0.1 % limit (Wilson and Hilferty)."""
    places = num_codes ** torch.arange(drawn.shape[1] - 1, -1, -1)
    counts = torch.bincount((drawn * places).sum(1), minlength=len(expected))
    likely = expected > 5
    degrees = int(likely.sum()) - 1
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * (2 / (9 * degrees)) ** 0.5) ** 3
    return ((counts - expected).square() / expected)[likely].sum().item() < limit


def test_maskgit_unmasks_by_the_cosine_schedule():
    model = shaken(MaskGIT(6, 256, **SMALL))
    masked: list[int] = []
    model.register_forward_pre_hook(lambda layer, inputs: masked.append(int((inputs[0] == 6).sum())))
    sample_maskgit(model, [3])
    assert masked == [256, *mask_counts(256, 8)[:-1]]


def test_maskgit_draws_a_token_at_each_step_however_few_there_are():
    model = shaken(MaskGIT(6, 5, **SMALL))
    found = sample_maskgit(model, [1, 2], steps=12)
    assert (found < 6).all()


def test_maskgit_keeps_the_most_confident_tokens():
    """Without noise on the confidences, and drawing the likeliest, the first step keeps the most certain places."""
    model = shaken(MaskGIT(6, 10, **SMALL))
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].clone()))
    sample_maskgit(model, [1], steps=3, choice=Choice(temperature=0), choice_temperature=0.0)
    with torch.no_grad():
        certainty, tokens = model(seen[0]).softmax(-1).max(-1)
    kept = seen[1][0] < 6
    assert kept.sum() == 10 - mask_counts(10, 3)[0]
    assert certainty[0][kept].min() > certainty[0][~kept].max()
    assert torch.equal(seen[1][0][kept], tokens[0][kept])


def test_guidance_is_a_line_through_both_logits():
    conditional, unconditional = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    both = torch.cat([conditional, unconditional])
    for weight in (0.0, 1.0, 4.0):
        torch.testing.assert_close(guide(both, weight), unconditional + weight * (conditional - unconditional))


def test_var_guides_from_nothing_to_the_full_over_the_scales():
    sampler = Sampler("var")
    plain, guided = (sampler([8], [1], guidance=weight)[0] for weight in (1.0, 30.0))
    assert plain[0] == guided[0] and not torch.equal(plain, guided)


# ---- choice


def test_top_k_and_top_p_leave_out_what_they_say():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[torch.tensor([2, 0, 3, 1])]
    assert Choice(top_k=2).filtered(logits).isfinite().tolist() == [False, True, False, True]
    assert Choice(top_p=0.69).filtered(logits).isfinite().tolist() == [False, True, False, True]
    assert Choice(top_p=0.71).filtered(logits).isfinite().tolist() == [True, True, False, True]
    assert Choice(top_p=1e-9).filtered(logits).isfinite().tolist() == [False, True, False, False]
    assert Choice(top_k=3, top_p=0.75).filtered(logits).isfinite().tolist() == [False, True, False, True]
    assert torch.equal(Choice(top_k=9).filtered(logits), logits)
    torch.testing.assert_close(Choice(temperature=0.5).filtered(logits), 2 * logits)


def test_tokens_are_drawn_with_the_chosen_probabilities():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    noise = gumbel(range(20000), [0], 4)[:, 0]
    for choice, expected in [
        (Choice(), [0.4, 0.3, 0.2, 0.1]),
        (Choice(top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Choice(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
    ]:
        shares = torch.bincount(choice.draw(logits.expand(20000, 4), noise), minlength=4) / 20000
        assert shares.tolist() == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": -1}, "temperature is -1"), ({"top_k": -1}, "top_k is -1"), ({"top_p": 0}, "top_p is 0")],
)
def test_choices_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Choice(**options)
