"""Embeddings of noise levels, and of positions.

Papers: Vaswani et al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762 (sines and cosines);
Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864 (rotary positions); Heo et al., Rotary Position Embedding
for Vision Transformer, ECCV 2024, https://arxiv.org/abs/2403.13298 (section 3.2: one half of a head for each axis)
Shapes: B batch, K noise levels of a sample, F features, H and W height and width in tokens, D size of a head.
"""

import math

import torch
from torch import Tensor

#: Ratio of the longest to the shortest wave.
_LONGEST = 10000.0


def wave_features(values: Tensor, size: int) -> Tensor:
    """Return cosines and sines of values at frequencies from 1 down to nearly 1 / 10000.

    Args:
        values: (...).
        size: F, even.

    Returns:
        (..., F).
    """
    angles = values[..., None] * _frequencies(size // 2).to(values)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def level_features(level: Tensor, size: int) -> Tensor:
    """Return the features (B, K F) of noise levels (B, K), F for each."""
    return wave_features(level, size).flatten(1)


def fixed_positions(height: int, width: int, size: int) -> Tensor:
    """Return the features (H W, F) of the rows and columns of tokens, half of them for each axis.

    Args:
        height: H.
        width: W.
        size: F, a multiple of 4.
    """
    rows, columns = _coordinates(height, width)
    return torch.cat([wave_features(columns, size // 2), wave_features(rows, size // 2)], dim=-1)


def rotations(height: int, width: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines (H W, D / 2) by which pairs of a head's features are turned.

    Args:
        height: H.
        width: W.
        size: D, a multiple of 4: one half for rows, the other for columns.
    """
    frequencies = _frequencies(size // 4)
    angles = torch.cat([axis[:, None] * frequencies for axis in _coordinates(height, width)], dim=-1)
    return angles.cos(), angles.sin()


def rotate(features: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return queries or keys (B, heads, H W, D) turned according to their positions."""
    cos, sin = (part.to(features) for part in rotation)
    first, second = features.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns (H W,) of tokens, float32."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows.flatten().float(), columns.flatten().float()


def _frequencies(count: int) -> Tensor:
    return torch.exp(-math.log(_LONGEST) / count * torch.arange(count, dtype=torch.float32))
