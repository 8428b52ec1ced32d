"""Exact nearest neighbours among vectors, computed in blocks so that memory does not grow with the number of pairs.

Shapes: N and M samples, D dimensions, k neighbours.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2048  # rows and columns of distances at a time
# Squared distances below this fraction of the squared lengths are rounding errors of float32 features: set to 0.
_EQUAL = 1e-13


def distance_blocks(queries: Tensor, points: Tensor) -> Iterator[tuple[slice, Iterator[tuple[slice, Tensor]]]]:
    """Yield the rows of a block of queries, with the columns and Euclidean distances of each block of points.

    Args:
        queries: (N, D).
        points: (M, D).
    """
    centre = points.double().mean(dim=0)  # centring keeps all distances and improves precision
    for rows in _slices(len(queries)):
        yield rows, _columns(queries[rows].double() - centre, points, centre)


def nearest(queries: Tensor, points: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the distances and indices of each query's k nearest points, nearest first.

    Args:
        queries: (N, D).
        points: (M, D), at least k.
        k: number of neighbours.

    Returns:
        Distances, float64 (N, k), and indices into `points`, int64 (N, k).
    """
    distances, numbers = [], []
    for _, columns in distance_blocks(queries, points):
        best, which = torch.empty(0), torch.empty(0)
        for cut, block in columns:
            value, position = block.topk(min(k, block.shape[1]), dim=1, largest=False)
            position = position + cut.start
            if len(best):
                value, chosen = torch.cat([best, value], 1).topk(k, dim=1, largest=False)
                position = torch.cat([which, position], 1).gather(1, chosen)
            best, which = value, position
        distances.append(best)
        numbers.append(which)
    return torch.cat(distances), torch.cat(numbers)


def radii(points: Tensor, k: int) -> Tensor:
    """Return the distance from each point (N, D) to its k-th nearest neighbour, float64 (N,)."""
    return nearest(points, points, k + 1)[0][:, k]  # a point is its own nearest


def _columns(queries: Tensor, points: Tensor, centre: Tensor) -> Iterator[tuple[slice, Tensor]]:
    lengths = queries.square().sum(dim=1, keepdim=True)
    for cut in _slices(len(points)):
        block = points[cut].double() - centre
        both = lengths + block.square().sum(dim=1)
        squared = torch.addmm(both, queries, block.T, alpha=-2)
        yield cut, squared.masked_fill_(squared < _EQUAL * both, 0).sqrt_()


def _slices(count: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
