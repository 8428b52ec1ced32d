"""Embeddings of noise levels, and of positions.

Papers: Vaswani et al., Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762 (sines and cosines);
Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864 (rotary positions); Heo et al., Rotary Position Embedding
for Vision Transformer, ECCV 2024, https://arxiv.org/abs/2403.13298 (section 3.2: one half of a head for each axis)
Shapes: B batch, K noise levels of a sample, F features, H and W height and width in tokens, D size of a head.
"""

import math
from functools import lru_cache

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
    angles = _angles(values, size // 2)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def level_features(level: Tensor, size: int) -> Tensor:
    """Return the features (B, K F) of noise levels (B, K), F for each."""
    return wave_features(level, size).flatten(1)


@lru_cache(maxsize=8)
def fixed_positions(height: int, width: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the features (H W, F) of the columns and rows of tokens, half of them for each axis.

    Args:
        height: H.
        width: W.
        size: F, a multiple of 4.
        dtype: of the features.
        device: of the features.
    """
    rows, columns = _coordinates(height, width)
    features = torch.cat([wave_features(columns, size // 2), wave_features(rows, size // 2)], dim=-1)
    return features.to(dtype).to(device)


@lru_cache(maxsize=8)
def rotations(height: int, width: int, size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines (H W, D / 2) by which pairs of a head's features are turned.

    Args:
        height: H.
        width: W.
        size: D, a multiple of 4: one half for rows, the other for columns.
        dtype: of the features.
        device: of the features.
    """
    angles = torch.cat([_angles(axis, size // 4) for axis in _coordinates(height, width)], dim=-1)
    return angles.cos().to(dtype).to(device), angles.sin().to(dtype).to(device)


def rotate(features: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return queries or keys (B, heads, H W, D) turned according to their positions."""
    cos, sin = rotation
    first, second = features.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns (H W,) of tokens, float64."""
    axes = (torch.arange(length, dtype=torch.float64) for length in (height, width))
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    return rows.flatten(), columns.flatten()


def _angles(values: Tensor, count: int) -> Tensor:
    """Return values (...) times a number of frequencies, (..., count)."""
    numbers = torch.arange(count, dtype=values.dtype, device=values.device)
    return values[..., None] * torch.exp(-math.log(_LONGEST) / count * numbers)
