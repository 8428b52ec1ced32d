"""Self-attention of an image's tokens, to which the tokens of a text are added as keys and values.

Papers: Vaswani et al., NeurIPS 2017, https://arxiv.org/abs/1706.03762; Nichol et al., GLIDE, ICML 2022,
https://arxiv.org/abs/2112.10741 (section 4.1: text tokens in every attention layer); Dehghani et al., Scaling Vision
Transformers to 22 Billion Parameters, ICML 2023, https://arxiv.org/abs/2302.05442 (normalised queries and keys)

Of the ways to let an image look at a text, this one needs one linear layer beside what is there: an attention layer of
its own would take as long again, and text tokens that go through the whole network make every layer larger.
Shapes: B batch, N tokens of the image, C channels, L tokens of the text, E size of their embeddings.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from aigc_diffusion.networks.embedding import rotate


class Attention(nn.Module):
    """Attention of tokens (B, N, C); its last layer can be started at zero by whoever adds the result.

    Args:
        channels: C, a multiple of the heads.
        heads: of C / heads channels each.
        text_size: E; 0 for no text.
        qk_norm: normalise queries and keys, each head by itself, which keeps long runs and bf16 stable.
    """

    def __init__(self, channels: int, heads: int, text_size: int = 0, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        #: Where `forward` leaves its attention weights (B, heads, N, N + L); None if nobody asks for them.
        self.seen: list[Tensor] | None = None
        self.qkv = nn.Linear(channels, 3 * channels)
        self.text_kv = nn.Linear(text_size, 2 * channels) if text_size else None
        self.query_norm = nn.RMSNorm(channels // heads) if qk_norm else nn.Identity()
        self.key_norm = nn.RMSNorm(channels // heads) if qk_norm else nn.Identity()
        self.last = nn.Linear(channels, channels)

    def forward(
        self,
        tokens: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return what is to be added to the tokens (B, N, C).

        Args:
            tokens: (B, N, C).
            text: (B, L, E).
            text_mask: (B, L), true for tokens of the text and false for padding.
            rotation: of queries and keys by the positions of their tokens, from `embedding.rotations`.
        """
        query, key, value = (self._heads(part) for part in self.qkv(tokens).chunk(3, dim=-1))
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        mask = None
        if self.text_kv is not None and text is not None:
            text_key, text_value = (self._heads(part) for part in self.text_kv(text).chunk(2, dim=-1))
            key = torch.cat([key, self.key_norm(text_key)], dim=2)
            value = torch.cat([value, text_value], dim=2)
            if text_mask is not None:
                mask = pad(text_mask, (tokens.shape[1], 0), value=True)[:, None, None]  # all of the image
        if self.seen is not None:
            self.seen.append(attention_weights(query, key, mask))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        result: Tensor = self.last(mixed.transpose(1, 2).flatten(2))
        return result

    def _heads(self, tokens: Tensor) -> Tensor:
        """Return (B, heads, N, C / heads) of (B, N, C)."""
        return tokens.view(*tokens.shape[:-1], self.heads, -1).transpose(1, 2)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weights (B, heads, N, M), whose rows sum to 1, of queries (B, heads, N, D) on keys (B, heads, M, D).

    Args:
        query: of the tokens that look.
        key: of the tokens that are looked at.
        mask: true for keys that are looked at, of a shape that broadcasts to the result; None for all.
    """
    scores: Tensor = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)
