"""Texts as context tokens: a small transformer over bytes, trained together with the one that it serves.

Papers: Vaswani et al., NIPS 2017, https://arxiv.org/abs/1706.03762; Xue et al., ByT5, TACL 2022,
https://arxiv.org/abs/2105.13626 (bytes need no vocabulary)
Shapes: B batch, T context tokens, W width.
"""

from collections.abc import Sequence

import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_autoregressive.transformers.attention import Attention

_PADDING, _FIRST_BYTE = 0, 1


class TextEncoder(nn.Module):
    """Embeds texts of any language.

    Args:
        width: W, a multiple of the number of heads.
        depth: number of blocks.
        num_heads: of the attention.
        max_length: T, the bytes that a text may have. Every text is padded to it, so that its embedding does not
            depend on the others in its batch.
    """

    def __init__(self, width: int = 128, depth: int = 2, num_heads: int = 4, max_length: int = 96) -> None:
        super().__init__()
        self.width, self.max_length = width, max_length
        self.bytes = nn.Embedding(_FIRST_BYTE + 256, width)
        self.positions = nn.Parameter(0.02 * torch.randn(max_length, width))
        self.blocks = nn.ModuleList(TextBlock(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.bytes.weight, std=0.02)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the context tokens (B, T, W) of B texts.

        Raises:
            UserError: a text is too long.
        """
        features: Tensor = self.bytes(self.tokenize(texts).to(self.positions.device)) + self.positions
        for block in self.blocks:
            features = block(features)
        normed: Tensor = self.norm(features)
        return normed

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return the bytes of texts in UTF-8, each plus 1, and 0 for padding; int64 (B, T).

        Raises:
            UserError: a text is too long.
        """
        tokens = torch.full((len(texts), self.max_length), _PADDING)
        for row, text in zip(tokens, texts, strict=True):
            numbers = [_FIRST_BYTE + byte for byte in text.encode()]
            if len(numbers) > self.max_length:
                raise UserError(
                    f"A text has {len(numbers)} bytes: {text[:40]!r}...",
                    f"The model reads up to {self.max_length}; shorten the text.",
                )
            row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return tokens


class TextBlock(nn.Module):
    """Attention and MLP, each after a norm and inside a residual connection."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, bias=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, T, W)."""
        features = features + self.attention(self.attention_norm(features))
        result: Tensor = features + self.mlp(self.mlp_norm(features))
        return result
