"""Tokens from transformers, drawn with Gumbel noise keyed by seed and place.

So a seed is one picture in any batch, as far as the logits are equal: batches of different sizes round differently, and
a draw between two tokens that are as good as equal may then turn out otherwise. Batches of a fixed size settle that.
All loops run under `torch.no_grad` and expect a model in evaluation mode.
Shapes: B batch, N tokens of an image.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aigc_autoregressive.noise import gumbel
from aigc_autoregressive.tokenizers.multi_scale import MultiScaleQuantizer
from aigc_autoregressive.tokenizers.quantizer import to_vectors
from aigc_autoregressive.transformers.choice import PLAIN, Choice, guide
from aigc_autoregressive.transformers.conditioning import OPEN, Condition
from aigc_autoregressive.transformers.image_gpt import ImageGPT
from aigc_autoregressive.transformers.maskgit import MaskGIT, masked_share
from aigc_autoregressive.transformers.var import VAR

#: Called with the numbers of finished steps and of all steps.
Progress = Callable[[int, int], None]
#: Tokens (B, N), and a bool mask (B, N) of those that are given.
Known = tuple[Tensor, Tensor]

_AT_ONCE = 16


def _silent(done: int, total: int) -> None: ...


@torch.no_grad()
def sample_image_gpt(
    model: ImageGPT,
    seeds: Sequence[int],
    condition: Condition = OPEN,
    *,
    guidance: float = 1.0,
    choice: Choice = PLAIN,
    known: Known | None = None,
    progress: Progress = _silent,
) -> Tensor:
    """Return tokens, int64 (B, N), one after the other.

    Args:
        model: causal.
        seeds: B numbers.
        condition: of the batch.
        guidance: 1 for none, see `guide`; above or below it costs twice the time.
        choice: how tokens are drawn.
        known: tokens that are given; they influence those after them alone.
        progress: told of each token.
    """
    device, batch = model.output.weight.device, len(seeds)
    rows = Rows(guidance, condition, batch, device)
    caches = model.caches()
    tokens = torch.empty(batch, model.num_tokens, dtype=torch.int64, device=device)
    logits = model.start(caches, rows.count, rows.condition)
    for place in range(model.num_tokens):
        if place > 0:
            logits = model.step(caches, rows.repeated(tokens[:, place - 1]), place - 1)
        if place % _AT_ONCE == 0:  # noise for some tokens at once costs less
            noise = gumbel(seeds, range(place, place + _AT_ONCE), model.num_codes, device)
        drawn = choice.draw(rows.guided(logits), noise[:, place % _AT_ONCE])
        tokens[:, place] = _kept(drawn, known, slice(place, place + 1))
        progress(place + 1, model.num_tokens)
    return tokens


@torch.no_grad()
def sample_maskgit(
    model: MaskGIT,
    seeds: Sequence[int],
    condition: Condition = OPEN,
    *,
    steps: int = 8,
    choice_temperature: float = 4.5,
    guidance: float = 1.0,
    choice: Choice = PLAIN,
    known: Known | None = None,
    progress: Progress = _silent,
) -> Tensor:
    """Return tokens, int64 (B, N): at each step all that are masked are drawn, and the most confident ones stay.

    Args:
        model: bidirectional.
        seeds: B numbers.
        condition: of the batch.
        steps: more draw fewer tokens at a time.
        choice_temperature: of the noise on the confidences, which falls to 0 over the steps; 0 for no noise.
        guidance: 1 for none, see `guide`; above or below it costs twice the time.
        choice: how tokens are drawn.
        known: tokens that are given; they influence all others.
        progress: told of each step.
    """
    device, batch, length = model.output_bias.device, len(seeds), model.num_tokens
    rows = Rows(guidance, condition, batch, device)
    tokens = torch.full((batch, length), model.mask_token, device=device)
    if known is not None:
        tokens = torch.where(known[1], known[0], tokens)
    at_first = (tokens == model.mask_token).sum(1)
    for step in range(steps):
        masked = tokens == model.mask_token
        guided = rows.guided(model(rows.repeated(tokens), rows.condition))
        places = [
            step * (length + 1) + place for place in range(length)
        ]  # a step has a key for each place and one more
        drawn = choice.draw(guided, gumbel(seeds, places, model.num_codes, device))
        confidence = guided.log_softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
        noise = gumbel(seeds, [places[-1] + 1], length, device)[:, 0]
        confidence = confidence + choice_temperature * (1 - (step + 1) / steps) * noise
        counts = (at_first.double() * masked_share(step + 1, steps)).floor()
        counts = torch.minimum(counts, masked.sum(1) - 1)  # each step draws one at least
        again = _lowest(confidence.masked_fill(~masked, torch.inf), counts)
        tokens = torch.where(masked & ~again, drawn, tokens)
        progress(step + 1, steps)
    return tokens


@torch.no_grad()
def sample_var(
    model: VAR,
    quantizer: MultiScaleQuantizer,
    seeds: Sequence[int],
    condition: Condition = OPEN,
    *,
    guidance: float = 1.0,
    choice: Choice = PLAIN,
    known: Known | None = None,
    latents: Tensor | None = None,
    progress: Progress = _silent,
) -> Tensor:
    """Return tokens of all scales, int64 (B, N), scale by scale.

    Args:
        model: that predicts scales.
        quantizer: of the tokenizer whose tokens the model has learnt.
        seeds: B numbers.
        condition: of the batch.
        guidance: 1 for none, see `guide`. As in the paper's code it grows with the scales, from 1 to this value.
        choice: how tokens are drawn.
        known: tokens that are given, such as those of the first scales; they influence the scales after them.
        latents: of the image whose tokens are given, (B, Z, h, w). A token stands for what coarser scales leave of
            these; where some were drawn, given tokens are therefore quantized again from what is left.
        progress: told of each scale.
    """
    device, batch, num_scales = model.output.weight.device, len(seeds), len(model.lengths)
    rows = Rows(guidance, condition, batch, device)
    caches = model.caches()
    found: list[Tensor] = []
    inputs = total = None
    for scale, length in enumerate(model.lengths):
        first = sum(model.lengths[:scale])
        places = range(first, first + length)
        logits = model.step(caches, scale, inputs, rows.count, rows.condition)
        guided = rows.guided(logits, share=scale / max(1, num_scales - 1))
        drawn = choice.draw(guided, gumbel(seeds, places, model.num_codes, device))
        kept = known
        if known is not None and latents is not None:
            left = latents if total is None else latents - total
            kept = known[0].slice_scatter(quantizer.nearest(left, scale), 1, first, first + length), known[1]
        found.append(_kept(drawn, kept, slice(first, first + length)))
        added = quantizer.grown(found[-1], scale)
        total = added if total is None else total + added
        if scale + 1 < num_scales:
            inputs = rows.repeated(to_vectors(quantizer.shrunk(total, scale + 1)))
        progress(scale + 1, num_scales)
    return torch.cat(found, dim=1)


class Rows:
    """What a model computes for each picture: one row of the batch, or with guidance one more without condition.

    Args:
        guidance: 1 for none.
        condition: of the pictures.
        batch: B.
        device: of the model.
    """

    def __init__(self, guidance: float, condition: Condition, batch: int, device: torch.device) -> None:
        self.guidance = guidance
        self.copies = 1 if guidance == 1 else 2
        self.count = self.copies * batch
        self.condition = condition if guidance == 1 else condition.guided(batch, device)

    def repeated(self, values: Tensor) -> Tensor:
        """Return values (B, ...) for each row."""
        return values if self.copies == 1 else torch.cat([values, values])

    def guided(self, logits: Tensor, share: float = 1.0) -> Tensor:
        """Return logits (B, ...) of those of each row.

        Args:
            logits: of the model.
            share: of the guidance; 0 for none.
        """
        return logits if self.copies == 1 else guide(logits, 1 + share * (self.guidance - 1))


def _kept(drawn: Tensor, known: Known | None, places: slice) -> Tensor:
    """Return drawn tokens, with those that are given in their places."""
    if known is None:
        return drawn
    tokens, given = (part[:, places].view_as(drawn) for part in known)
    return torch.where(given, tokens, drawn)


def _lowest(values: Tensor, counts: Tensor) -> Tensor:
    """Return which values (B, N) are the lowest of their row, as many as `counts` (B,) says."""
    return values.argsort(dim=1).argsort(dim=1) < counts.unsqueeze(1)
