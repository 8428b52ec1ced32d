"""VAR: a transformer that predicts an image scale by scale, all tokens of a scale at once.

Paper: Tian et al., Visual Autoregressive Modeling, NeurIPS 2024, https://arxiv.org/abs/2404.02905
Departs from the paper: without stochastic depth; what is to be shown may also be given as context tokens, which all
scales see, and as a summary of these, which is added to the class.
Shapes: B batch, N tokens of all scales, n tokens of one, S scales, K codes, Z latent channels, W width, T context
tokens.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.transformers.attention import Attention, KeyValueCache
from aigc_autoregressive.transformers.conditioning import (
    OPEN,
    ClassToken,
    Condition,
    ContextTokens,
    check_parts,
    extended,
)
from aigc_autoregressive.transformers.likelihood import token_log_prob


class VAR(nn.Module):
    """Probabilities of the tokens of each scale given the scales before.

    Args:
        num_codes: K.
        code_width: Z of the tokenizer.
        scales: height and width of each token map.
        width: W.
        depth: number of blocks.
        num_heads: of the attention.
        num_classes: 0 without classes.
        context_width: features of context tokens, see `Prefix`.
        context_length: T, 0 without context.
    """

    mask: Tensor
    scale_of: Tensor

    def __init__(
        self,
        num_codes: int,
        code_width: int,
        scales: Sequence[tuple[int, int]],
        *,
        width: int = 1024,
        depth: int = 16,
        num_heads: int = 16,
        num_classes: int = 0,
        context_width: int = 0,
        context_length: int = 0,
    ) -> None:
        super().__init__()
        self.num_codes, self.context_length = num_codes, context_length
        self.lengths = [height * columns for height, columns in scales]
        self.num_tokens = sum(self.lengths)
        self.classes = ClassToken(width, num_classes)
        self.context = ContextTokens(width, context_width, context_length) if context_length else None
        self.inputs = nn.Linear(code_width, width)
        self.start_positions = nn.Parameter(torch.empty(self.lengths[0], width))
        self.positions = nn.Parameter(torch.empty(self.num_tokens, width))
        self.scale_codes = nn.Embedding(len(scales), width)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, num_codes)
        scale_of = torch.tensor([scale for scale, length in enumerate(self.lengths) for _ in range(length)])
        groups = torch.cat([scale_of.new_full((context_length,), -1), scale_of])
        self.register_buffer("scale_of", scale_of, persistent=False)
        self.register_buffer("mask", groups[:, None] >= groups, persistent=False)
        self._start()

    def forward(self, inputs: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return logits of the tokens of all scales, (B, N, K), each computed from the scales before.

        Args:
            inputs: what `MultiScaleQuantizer.next_inputs` gives, (B, N - n, Z), n being the first scale's tokens.
            condition: of the batch.
        """
        shown, context, present = self._shown(condition, inputs.shape[0])  # a dimension of exported programs
        tokens = self._placed(torch.cat([self._first(shown), self.inputs(inputs)], dim=1), 0)
        mask = self._mask(present, self.context_length + self.num_tokens)
        features = self._features(torch.cat([context, tokens], dim=1), shown, mask, [None] * len(self.blocks))
        return self._logits(features[:, self.context_length :], shown)

    def log_prob(self, inputs: Tensor, tokens: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return the log-probability of each token (B, N) given the scales before, in nats, (B, N)."""
        return token_log_prob(self(inputs, condition), tokens)

    # ---- scale by scale

    def caches(self) -> list[KeyValueCache]:
        """Return empty caches for `step`."""
        return [KeyValueCache(self.context_length + self.num_tokens) for _ in self.blocks]

    def step(
        self, caches: list[KeyValueCache], scale: int, inputs: Tensor | None, batch: int, condition: Condition = OPEN
    ) -> Tensor:
        """Return logits of the tokens of a scale, (B, n, K).

        Args:
            caches: of the scales before.
            scale: its number; all take their turns.
            inputs: the sum of the scales before at the size of this one, (B, n, Z); None for the first.
            batch: B.
            condition: of the batch.
        """
        shown, context, present = self._shown(condition, batch)
        length, before = self.lengths[scale], sum(self.lengths[:scale])
        mask: Tensor | None
        if inputs is None:
            tokens = torch.cat([context, self._placed(self._first(shown), 0)], dim=1)
            mask = self._mask(present, tokens.shape[1])
        else:
            tokens = self._placed(self.inputs(inputs), before)
            mask = None if present is None else extended(present, before + length)[:, None, None]
        return self._logits(self._features(tokens, shown, mask, caches)[:, -length:], shown)

    # ---- parts

    def _shown(self, condition: Condition, batch: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what is to be shown, as a vector (B, W) and as context tokens (B, T, W), and which of these there are.

        The latter is bool (B, T), or None without context.
        """
        check_parts(condition, classes=self.classes.num_classes > 0, context=self.context is not None)
        shown: Tensor = condition.with_summary(self.classes(condition, batch).unsqueeze(1)).squeeze(1)
        if self.context is None:
            return shown, shown.new_empty(batch, 0, shown.shape[1]), None
        context, present = self.context(condition, batch)
        share = present.to(context) / present.sum(1, keepdim=True)
        return shown + (context * share.unsqueeze(-1)).sum(1), context, present

    def _mask(self, present: Tensor | None, count: int) -> Tensor:
        """Return which of the first tokens, of context and scales, see which; bool (n, n) or (B, 1, n, n)."""
        mask = self.mask[:count, :count]
        return mask if present is None else mask & extended(present, count - self.context_length)[:, None, None]

    def _first(self, shown: Tensor) -> Tensor:
        """Return the inputs of the first scale, (B, n, W)."""
        return shown.unsqueeze(1) + self.start_positions

    def _placed(self, tokens: Tensor, first: int) -> Tensor:
        """Add to tokens (B, n, W) what says where they are, the first of them being at this place."""
        end = first + tokens.shape[1]
        scales: Tensor = self.scale_codes(self.scale_of[first:end])
        return tokens + self.positions[first:end] + scales

    def _features(
        self, tokens: Tensor, shown: Tensor, mask: Tensor | None, caches: Iterable[KeyValueCache | None]
    ) -> Tensor:
        for block, cache in zip(self.blocks, caches, strict=True):
            tokens = block(tokens, shown, mask, cache)
        return tokens

    def _logits(self, features: Tensor, shown: Tensor) -> Tensor:
        scale, shift = self.modulation(functional.silu(shown)).unsqueeze(1).chunk(2, dim=-1)
        logits: Tensor = self.output(modulated(features, scale, shift))
        return logits

    def _start(self) -> None:
        """Draw weights as the authors do: small, and such that at first the blocks hand on what comes in, nearly."""
        width, depth = self.output.weight.shape[1], len(self.blocks)
        std = math.sqrt(1 / (3 * width))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks.children():
            assert isinstance(block, Block)
            block.start(depth)
        with torch.no_grad():
            self.modulation.weight *= 0.5
            self.output.weight *= 0.02


class Block(nn.Module):
    """Attention and MLP, each modulated by what is to be shown and inside a residual connection."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 6 * width)
        qkv, norm = QueryValueBias(width), CosineNorm(num_heads)
        self.attention = Attention(width, num_heads, bias=True, qkv=qkv, norm=norm)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, features: Tensor, shown: Tensor, mask: Tensor | None, cache: KeyValueCache | None) -> Tensor:
        """Return (B, n, W)."""
        parts = self.modulation(functional.silu(shown)).unsqueeze(1).chunk(6, dim=-1)
        attention_gate, mlp_gate, attention_scale, mlp_scale, attention_shift, mlp_shift = parts
        attended = self.attention(modulated(features, attention_scale, attention_shift), mask=mask, cache=cache)
        features = features + attended * attention_gate
        result: Tensor = features + self.mlp(modulated(features, mlp_scale, mlp_shift)) * mlp_gate
        return result

    @torch.no_grad()
    def start(self, depth: int) -> None:
        """Make weights small: those that end a residual connection by the depth, and nearly 0 those of the gates."""
        assert isinstance(self.mlp[2], nn.Linear)
        for layer in (self.attention.output, self.mlp[2]):
            layer.weight /= math.sqrt(2 * depth)
        gates = 2 * self.modulation.weight.shape[1]
        self.modulation.weight[:gates] *= 1e-5
        self.modulation.weight[gates:] *= 0.5


class QueryValueBias(nn.Module):
    """Projection to queries, keys and values, of which the keys have no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., 3W)."""
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        return functional.linear(features, self.projection.weight, bias)


class CosineNorm(nn.Module):
    """Queries and keys of length 1, times a learnt scale for each head of at most 100."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((num_heads, 1), math.log(4)))

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return both normalised, in their shapes (B, N, M, D)."""
        scale = self.log_scale.clamp_max(math.log(100)).exp() * math.sqrt(queries.shape[-1])  # attention divides by it
        return functional.normalize(queries, dim=-1) * scale, functional.normalize(keys, dim=-1)


def modulated(features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise features (B, n, W), then scale them by 1 + scale and shift them, (B, 1, W) each."""
    return functional.layer_norm(features, features.shape[-1:], eps=1e-6) * (1 + scale) + shift
