"""A causal transformer that predicts an image token by token.

Papers: Chen et al., Generative Pretraining from Pixels, ICML 2020 (Image GPT); Sun et al., LlamaGen, 2024,
https://arxiv.org/abs/2406.06525, whose sizes and layers are the defaults
Departs from the papers: LlamaGen's norms do not subtract the mean; these are Image GPT's, which do and which processors
compute three times as fast. Pixels of several channels are that many tokens of one place.
Shapes: B batch, N tokens of an image, K codes, W width, P tokens of the prefix.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.transformers.attention import Attention, KeyValueCache, QKNorm, rotations
from aigc_autoregressive.transformers.conditioning import OPEN, Condition, Prefix, extended
from aigc_autoregressive.transformers.likelihood import token_log_prob


class ImageGPT(nn.Module):
    """Probabilities of each token given those before it: of a tokenizer's codes, or of the levels of pixels.

    Args:
        num_codes: K.
        grid: rows and columns of the tokens.
        channels: tokens of each place, which come one after the other; those of places go row by row.
        width: W.
        depth: number of blocks.
        num_heads: of the attention.
        mlp: "swiglu" or "gelu".
        mlp_width: hidden features; None for 8/3 W, rounded up to a multiple of 32, or for 4 W with "gelu": as many
            weights.
        position: "rope", rotary by row and column, or "learned".
        qk_norm: whether queries and keys are normalised.
        dropout: probability, after embeddings, attention and MLP.
        num_classes: see `Prefix`.
        context_width: see `Prefix`.
        context_length: see `Prefix`.
    """

    rotation: Tensor | None

    def __init__(
        self,
        num_codes: int,
        grid: tuple[int, int],
        channels: int = 1,
        *,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp: Literal["swiglu", "gelu"] = "swiglu",
        mlp_width: int | None = None,
        position: Literal["rope", "learned"] = "rope",
        qk_norm: bool = False,
        dropout: float = 0.0,
        num_classes: int = 0,
        context_width: int = 0,
        context_length: int = 0,
    ) -> None:
        super().__init__()
        self.num_codes, self.grid, self.channels = num_codes, grid, channels
        self.num_tokens = grid[0] * grid[1] * channels
        self.prefix = Prefix(width, num_classes, context_width, context_length)
        self.codes = nn.Embedding(num_codes, width)
        self.channel_codes = nn.Embedding(channels, width) if channels > 1 else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, make_mlp(width, mlp, mlp_width), qk_norm, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, bias=False)
        self.output = nn.Linear(width, num_codes, bias=False)
        self.positions = None
        self.register_buffer("rotation", None, persistent=False)
        if position == "learned":
            self.positions = nn.Parameter(torch.empty(self.prefix.length + self.num_tokens - 1, width))
        else:
            self.register_buffer("rotation", rotations(self._places(), width // num_heads), persistent=False)
        self._start()

    def forward(self, tokens: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return logits of each token, (B, N, K), computed from those before it.

        Args:
            tokens: int64 (B, N).
            condition: of the batch.
        """
        logits: Tensor = self.output(self.features(tokens, condition))
        return logits

    def features(self, tokens: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return what each token is predicted from, (B, N, W)."""
        prefix, present = self.prefix(condition, tokens.shape[0])  # a dimension of exported programs
        inputs = torch.cat([prefix, condition.with_summary(self._embedded(tokens[:, :-1], 0))], dim=1)
        mask = None if present is None else _causal(extended(present, self.num_tokens - 1))
        return self._features(inputs, 0, mask, [None] * len(self.blocks))[:, self.prefix.length - 1 :]

    def log_prob(self, tokens: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return the log-probability of each token given those before it, in nats, (B, N)."""
        return token_log_prob(self(tokens, condition), tokens)

    # ---- token by token

    def caches(self) -> list[KeyValueCache]:
        """Return empty caches for `start` and `step`."""
        return [KeyValueCache(self.prefix.length + self.num_tokens - 1) for _ in self.blocks]

    def start(self, caches: list[KeyValueCache], batch: int, condition: Condition = OPEN) -> Tensor:
        """Return logits of the first token, (B, K)."""
        prefix, present = self.prefix(condition, batch)
        for cache in caches:
            cache.present, cache.summary = present, condition.kept_summary
        features = self._features(prefix, 0, None if present is None else _causal(present), caches)
        logits: Tensor = self.output(features[:, -1])
        return logits

    def step(self, caches: list[KeyValueCache], tokens: Tensor, place: int) -> Tensor:
        """Return logits of the token after a place, (B, K), given the token at this place, (B,)."""
        embedded = self._embedded(tokens.unsqueeze(1), place)
        present, summary = caches[0].present, caches[0].summary
        if summary is not None:
            embedded = embedded + summary
        mask = None if present is None else extended(present, place + 1)[:, None, None]
        logits: Tensor = self.output(self._features(embedded, self.prefix.length + place, mask, caches)[:, 0])
        return logits

    # ---- parts

    def _embedded(self, tokens: Tensor, first: int) -> Tensor:
        embedded: Tensor = self.codes(tokens)
        if self.channel_codes is not None:
            places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
            embedded = embedded + self.channel_codes(places % self.channels)
        return embedded

    def _features(
        self, inputs: Tensor, first: int, mask: Tensor | None, caches: Iterable[KeyValueCache | None]
    ) -> Tensor:
        """Return the last features of inputs (B, n, W) that begin at a place of the sequence.

        Without a mask, see `Attention`, each sees those before it.
        """
        end = first + inputs.shape[1]
        if self.positions is not None:
            inputs = inputs + self.positions[first:end]
        rotation = None if self.rotation is None else self.rotation[first:end]
        features = self.dropout(inputs)
        for block, cache in zip(self.blocks, caches, strict=True):
            features = block(features, rotation, mask, cache)
        normed: Tensor = self.norm(features)
        return normed

    def _places(self) -> list[tuple[int, int]]:
        """Return row and column of each input, counted from 1; the prefix is at 0."""
        rows, columns = self.grid
        cells = [(row, column) for row in range(1, rows + 1) for column in range(1, columns + 1)]
        return [(0, 0)] * self.prefix.length + [cell for cell in cells for _ in range(self.channels)][:-1]

    def _start(self) -> None:
        """Draw weights from N(0, 0.02^2), smaller where residuals add up; the first logits are 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                deep = name.endswith("output.weight")
                nn.init.normal_(parameter, std=0.02 / (2 * len(self.blocks)) ** 0.5 if deep else 0.02)
        nn.init.zeros_(self.output.weight)


def _causal(present: Tensor) -> Tensor:
    """Return which tokens see which, bool (B, 1, n, n): themselves and those before them that there are, (B, n)."""
    before = torch.ones(present.shape[1], present.shape[1], dtype=torch.bool, device=present.device).tril()
    return before & present[:, None, None]


class Block(nn.Module):
    """Attention and MLP, each after a norm and inside a residual connection."""

    def __init__(self, width: int, num_heads: int, mlp: nn.Module, qk_norm: bool, dropout: float) -> None:
        super().__init__()
        norm = QKNorm(width // num_heads) if qk_norm else None
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, num_heads, bias=False, norm=norm, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features: Tensor, rotation: Tensor | None, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        """Return (B, n, W)."""
        causal = mask is None and features.shape[1] > 1
        attended = self.attention(self.attention_norm(features), rotation, mask, causal, cache)
        features = features + self.dropout(attended)
        result: Tensor = features + self.dropout(self.mlp(self.mlp_norm(features)))
        return result


class SwiGLU(nn.Module):
    """Gated MLP (Shazeer, 2020, https://arxiv.org/abs/2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)  # apart from the content: halves of one result are slower
        self.content = nn.Linear(width, hidden, bias=False)
        self.output = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., W)."""
        result: Tensor = self.output(functional.silu(self.gate(features)) * self.content(features))
        return result


class GELU(nn.Module):
    """MLP with a GELU between two linear maps."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(width, hidden, bias=False)
        self.output = nn.Linear(hidden, width, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., W)."""
        result: Tensor = self.output(functional.gelu(self.inputs(features)))
        return result


def make_mlp(width: int, kind: Literal["swiglu", "gelu"], hidden: int | None) -> nn.Module:
    """Return an MLP by name, of about 8 W^2 weights where its hidden width is not given."""
    if kind == "gelu":
        return GELU(width, hidden or 4 * width)
    return SwiGLU(width, hidden or -(-8 * width // 96) * 32)
