"""MaskGIT: a bidirectional transformer that fills in masked tokens, many at a time.

Paper: Chang et al., MaskGIT: Masked Generative Image Transformer, CVPR 2022, https://arxiv.org/abs/2202.04200
Departs from the paper: the loss is divided by the expected number of masked tokens; what is to be shown may also be
given as context tokens and their summary, and guidance is possible since the mask in the place of the class leaves the
class open.
Shapes: B batch, N tokens of an image, K codes, W width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.transformers.attention import Attention
from aigc_autoregressive.transformers.conditioning import (
    OPEN,
    Condition,
    ContextTokens,
    check_parts,
    extended,
    labels_or_open,
)


class MaskGIT(nn.Module):
    """Probabilities of masked tokens given the others.

    Args:
        num_codes: K.
        num_tokens: N.
        width: W.
        depth: number of blocks.
        num_heads: of the attention.
        mlp_width: hidden features of the MLPs; None for 4 W.
        dropout: probability, after embeddings, attention and MLP.
        num_classes: 0 without classes.
        context_width: features of context tokens, see `Prefix`.
        context_length: context tokens, 0 without context.
    """

    def __init__(
        self,
        num_codes: int,
        num_tokens: int,
        *,
        width: int = 768,
        depth: int = 24,
        num_heads: int = 8,
        mlp_width: int | None = None,
        dropout: float = 0.1,
        num_classes: int = 0,
        context_width: int = 0,
        context_length: int = 0,
    ) -> None:
        super().__init__()
        self.num_codes, self.num_tokens = num_codes, num_tokens
        #: The token of what is masked; classes have the numbers after it.
        self.mask_token = num_codes
        self.table = nn.Embedding(num_codes + 1 + num_classes, width)
        self.positions = nn.Embedding(1 + num_tokens, width)
        self.context = ContextTokens(width, context_width, context_length) if context_length else None
        self.start = nn.Sequential(nn.LayerNorm(width, eps=1e-12), nn.Dropout(dropout))
        self.blocks = nn.ModuleList(Block(width, num_heads, mlp_width or 4 * width, dropout) for _ in range(depth))
        self.output = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))
        self.output_bias = nn.Parameter(torch.zeros(num_codes + 1 + num_classes))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return logits of the code at each place, (B, N, K).

        Args:
            tokens: int64 (B, N), with `mask_token` where they are masked.
            condition: of the batch.
        """
        features: Tensor = self.output(self.features(tokens, condition))
        return features @ self.table.weight[: self.num_codes].T + self.output_bias[: self.num_codes]

    def features(self, tokens: Tensor, condition: Condition = OPEN) -> Tensor:
        """Return the last features of each place, (B, N, W)."""
        check_parts(condition, classes=len(self.table.weight) > self.num_codes + 1, context=self.context is not None)
        batch = tokens.shape[0]  # a dimension of exported programs
        classes = self.num_codes + 1 + labels_or_open(condition, batch, -1, tokens.device)  # open: the mask token
        embedded, mask = self.table(torch.cat([classes.unsqueeze(1), tokens], dim=1)) + self.positions.weight, None
        embedded = condition.with_summary(embedded)
        if self.context is not None:
            context, present = self.context(condition, batch)
            embedded = torch.cat([context, embedded], dim=1)
            mask = extended(present, 1 + self.num_tokens)[:, None, None]
        features: Tensor = self.start(embedded)
        for block in self.blocks:
            features = block(features, mask)
        return features[:, -self.num_tokens :]


class Block(nn.Module):
    """Attention and MLP, each inside a residual connection that is normalised afterwards, as in BERT."""

    def __init__(self, width: int, num_heads: int, mlp_width: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads, bias=True, dropout=dropout)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))
        self.mlp_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, n, W)."""
        features = self.attention_norm(features + self.dropout(self.attention(features, mask=mask)))
        result: Tensor = self.mlp_norm(features + self.dropout(self.mlp(features)))
        return result


def training_mask(ratios: Tensor, order: Tensor) -> Tensor:
    """Return which tokens are masked in a training step, bool (B, N): a share cos(pi r / 2) of them, one at least.

    Args:
        ratios: r, uniform in [0, 1), (B,).
        order: numbers (B, N); the smallest are masked.
    """
    length = order.shape[1]
    counts = (length * torch.cos(ratios * (math.pi / 2))).ceil().clamp(1, length)
    return order.argsort(dim=1).argsort(dim=1) < counts.unsqueeze(1)


def masked_loss(logits: Tensor, tokens: Tensor, masked: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of the masked tokens of each sample in nats, (B,).

    It is the sum over the masked tokens, divided by the number that is masked on average, 2 N / pi. Unlike division by
    the number of those masked in a batch, this makes a batch's loss the mean of those of its parts.

    Args:
        logits: (B, N, K).
        tokens: the true ones, int64 (B, N).
        masked: bool (B, N).
        label_smoothing: share of the target that is spread over all codes; 0.1 in the paper.
    """
    losses = functional.cross_entropy(
        logits.flatten(0, 1), tokens.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return (losses.view_as(tokens) * masked).sum(1) / (tokens.shape[1] * 2 / math.pi)


def masked_share(step: int, num_steps: int) -> float:
    """Return the share of the tokens that is still masked after a step of sampling, the first step being 1."""
    return math.cos(math.pi / 2 * step / num_steps)


def mask_counts(num_tokens: int, num_steps: int) -> list[int]:
    """Return how many tokens are still masked after each step of sampling, 0 at the end."""
    return [math.floor(num_tokens * masked_share(step, num_steps)) for step in range(1, num_steps + 1)]
