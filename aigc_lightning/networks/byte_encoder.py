"""A small transformer that reads texts byte by byte, to be trained beside the network it serves.

Papers: Vaswani et al., NeurIPS 2017, https://arxiv.org/abs/1706.03762; Xue et al., ByT5: Towards a Token-Free Future
with Pre-trained Byte-to-Byte Models, TACL 2022, https://arxiv.org/abs/2105.13626 (bytes need no vocabulary).
Departures from the papers: an encoder alone, whose norms are in front of its layers.
Shapes: B batch, L tokens of a text, E size of their embeddings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from aigc_lightning.errors import UserError

#: Tokens: of padding, before each text, and of the byte 0, which those of the others follow.
PADDING, START, FIRST_BYTE = 0, 1, 2
#: The number of tokens.
NUM_TOKENS = FIRST_BYTE + 256


class EncodedText(NamedTuple):
    """What is known of some texts.

    Args:
        tokens: (B, L, E).
        mask: (B, L), true for tokens and false for padding.
        pooled: (B, E).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class ByteEncoder(nn.Module):
    """Embeds texts of any language. The empty text is the one for no condition.

    Args:
        size: E, a multiple of the heads.
        depth: number of layers.
        heads: of the attention.
        max_length: L: the bytes that a text may have, and one token before them. Every text is padded to it, so that
            its embedding does not depend on the others in its batch.
    """

    def __init__(self, size: int = 128, depth: int = 3, heads: int = 4, max_length: int = 96) -> None:
        super().__init__()
        self.size, self.max_length = size, max_length
        self.bytes = nn.Embedding(NUM_TOKENS, size)
        self.positions = nn.Parameter(0.02 * torch.randn(max_length, size))
        self.layers = nn.ModuleList(_Layer(size, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(size)
        nn.init.normal_(self.bytes.weight, std=0.02)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens (B, L) int64 of texts: a start, their bytes in UTF-8, and padding.

        Raises:
            UserError: a text that is too long.
        """
        tokens = torch.full((len(texts), self.max_length), PADDING)
        for row, text in zip(tokens, texts, strict=True):
            numbers = [START, *(FIRST_BYTE + byte for byte in text.encode())]
            if len(numbers) > self.max_length:
                raise UserError(
                    f"A text has {len(numbers) - 1} bytes: {text[:40]!r}...",
                    f"The model reads up to {self.max_length - 1}; shorten the text.",
                )
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens

    def forward(self, tokens: Tensor) -> EncodedText:
        """Return the embeddings of texts' tokens (B, L)."""
        mask = tokens != PADDING
        features = self.bytes(tokens) + self.positions
        for layer in self.layers:
            features = layer(features, mask)
        features = self.norm(features)
        return EncodedText(features, mask, features[:, 0])  # the start has seen the whole text


class _Layer(nn.Module):
    """A layer with its norms in front."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention = _Attention(size, heads)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(approximate="tanh"), nn.Linear(4 * size, size))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return features (B, L, E) for features (B, L, E), of which those in the mask (B, L) are looked at."""
        features = features + self.attention(self.attention_norm(features), mask)
        mixed: Tensor = features + self.mlp(self.mlp_norm(features))
        return mixed


class _Attention(nn.Module):
    """Self-attention with several heads."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * size)
        self.last = nn.Linear(size, size)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return what is to be added to features (B, L, E), of which those in the mask (B, L) are looked at."""
        query, key, value = self.qkv(features).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        result: Tensor = self.last(mixed.transpose(1, 2).flatten(2))
        return result
