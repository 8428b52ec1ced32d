"""Attention with a cache of keys and values, and rotary positions of two dimensions.

Papers: Vaswani et al., NIPS 2017, https://arxiv.org/abs/1706.03762; Su et al., RoFormer, 2021,
https://arxiv.org/abs/2104.09864 (rotary positions); Henry et al., 2020, https://arxiv.org/abs/2010.04245 (QK-norm)
Departs from the papers: half of a head's features are rotated by a token's row and half by its column.
Shapes: B batch, N tokens, W width, M heads, D features of a head.
"""

from collections.abc import Sequence

import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn
from torch.nn import functional


class KeyValueCache:
    """Keys and values of the tokens that a layer has seen.

    Args:
        longest: tokens that it can hold.
    """

    def __init__(self, longest: int) -> None:
        self.longest, self.length = longest, 0
        #: Which of its first tokens may be attended to, bool (B, n); None for all. What follows them always may.
        self.present: Tensor | None = None
        #: What is added to each token that follows, (B, 1, W); None for nothing.
        self.summary: Tensor | None = None
        self._kept: tuple[Tensor, Tensor] | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of new tokens, (B, M, N, D), and return those of all tokens so far."""
        if self._kept is None:
            shape = (*keys.shape[:2], self.longest, keys.shape[3])
            self._kept = keys.new_empty(shape), values.new_empty(shape)
        before, self.length = self.length, self.length + keys.shape[2]
        for kept, new in zip(self._kept, (keys, values), strict=True):
            kept[:, :, before : self.length] = new
        return self._kept[0][:, :, : self.length], self._kept[1][:, :, : self.length]


class Attention(nn.Module):
    """Self-attention.

    Args:
        width: W, a multiple of the number of heads.
        num_heads: M.
        bias: whether the projections add a constant.
        qkv: projection to queries, keys and values, (..., W) to (..., 3W); None for a linear one.
        norm: of queries and keys, called with both, (B, N, M, D) each.
        dropout: probability that a token is not attended to.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        bias: bool,
        qkv: nn.Module | None = None,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise UserError(f"A width of {width} cannot be split into {num_heads} heads.", "Choose a multiple of it.")
        self.num_heads, self.dropout = num_heads, dropout
        #: Where `forward` leaves its attention weights (B, M, N, tokens attended to); None if nobody asks for them.
        self.seen: list[Tensor] | None = None
        self.qkv = nn.Linear(width, 3 * width, bias=bias) if qkv is None else qkv
        self.norm = norm
        self.output = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        features: Tensor,
        rotation: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return (B, N, W).

        Args:
            features: (B, N, W).
            rotation: of the tokens, from `rotations`.
            mask: bool (N, tokens attended to) or (B, 1, N, tokens attended to), true where a token is attended to.
            causal: whether tokens see those before them alone; for an empty cache or none.
            cache: of the tokens before these ones.
        """
        batch, length, width = features.shape
        projected = self.qkv(features).view(batch, length, 3, self.num_heads, width // self.num_heads)
        queries, keys, values = projected.unbind(2)
        if self.norm is not None:
            queries, keys = self.norm(queries, keys)
        if rotation is not None:
            queries, keys = rotated(queries, rotation), rotated(keys, rotation)
        queries, keys, values = (part.transpose(1, 2) for part in (queries, keys, values))
        if cache is not None:
            keys, values = cache.extend(keys, values)
        if self.seen is not None:
            self.seen.append(weights(queries, keys, mask, causal))
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, mask, self.dropout if self.training else 0.0, causal
        )
        result: Tensor = self.output(attended.transpose(1, 2).reshape(batch, length, width))
        return result


def weights(queries: Tensor, keys: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Return the attention weights (B, M, N, N') of queries (B, M, N, D) on keys (B, M, N', D); rows sum to 1."""
    scores: Tensor = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)


class QKNorm(nn.Module):
    """Layer norm of queries and of keys, which keeps their products small in long trainings."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.queries = nn.LayerNorm(head_width, bias=False)
        self.keys = nn.LayerNorm(head_width, bias=False)

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return both normalised, in their shapes (..., D)."""
        return self.queries(queries), self.keys(keys)


def rotations(positions: Sequence[tuple[int, int]], head_width: int, base: float = 10000.0) -> Tensor:
    """Return the cosines and sines of the angles by which tokens are turned, float32 (N, 1, D / 2, 2).

    Args:
        positions: row and column of each token; (0, 0) turns nothing.
        head_width: D; a quarter of the pairs of features is turned by the row at decreasing speeds, and so on.
        base: ratio between the fastest turn and the slowest, nearly.

    Raises:
        UserError: D is no multiple of 4.
    """
    if head_width % 4:
        raise UserError(
            f"Rotary positions in rows and columns need heads of a multiple of 4 features, not of {head_width}.",
            "Choose another width or number of heads.",
        )
    frequencies = base ** (-torch.arange(head_width // 4).double() / (head_width // 4))
    angles = (torch.tensor(positions).double().unsqueeze(-1) * frequencies).flatten(1).unsqueeze(1)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def rotated(features: Tensor, rotation: Tensor) -> Tensor:
    """Turn pairs of features (B, N, M, D) by their tokens' rotations (N, 1, D / 2, 2).

    As complex numbers, which on a processor takes a third of the time that sums of real products take.
    """
    exact = torch.promote_types(features.dtype, torch.float32)  # there are no complex numbers of 16 bits
    pairs = torch.view_as_complex(features.to(exact).view(*features.shape[:-1], -1, 2))
    turned = torch.view_as_real(pairs * torch.view_as_complex(rotation.to(exact)))
    return turned.flatten(-2).to(features.dtype)
