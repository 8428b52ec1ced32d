"""Interpolation between points of a latent space.

Shapes: B batch, Z latent size.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_PARALLEL = 1e-4  # sine below which two directions are too nearly parallel or opposite for an arc


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Interpolate spherically between two latents (Shoemake, SIGGRAPH 1985, section 3.3).

    High-dimensional standard normal latents lie near a sphere; a straight line would pass through its inside, where a
    generator saw none in training (White, 2016, https://arxiv.org/abs/1609.04468, section 2.1).

    Args:
        start: of any shape.
        end: of the same shape.
        share: 0 gives `start` and 1 gives `end`, exactly.
    """
    if share in (0, 1):
        return end if share else start
    lengths = start.norm() * end.norm()
    cosine = ((start * end).sum() / lengths.clamp_min(1e-12)).clamp(-1, 1)
    angle = cosine.acos()
    sine = angle.sin()
    if sine < _PARALLEL:
        return torch.lerp(start, end, share)
    arc: Tensor = (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / sine
    return arc


def closed_walk(
    latents: Tensor, frames: int, between: Callable[[Tensor, Tensor, float], Tensor] = slerp
) -> Iterator[Tensor]:
    """Yield the latents (1, ...) of a walk from each of B points to the next and from the last one to the first.

    Args:
        latents: (B, ...).
        frames: steps from a point to the next; point i is number `i * frames`.
        between: gives the point at a share of the way from one to another; `torch.lerp` for straight ways.
    """
    for start, end in zip(latents, latents.roll(-1, dims=0), strict=True):
        for step in range(frames):
            yield between(start, end, step / frames)[None]


def traversal(latent: Tensor, dimension: int, values: Tensor) -> Tensor:
    """Return copies (len(values), ...) of a latent (1, ...) with one coordinate set to each of the values.

    Args:
        latent: of any shape.
        dimension: number of the coordinate in the flattened latent.
        values: that it takes.
    """
    rows = latent.flatten(1).repeat(len(values), 1)
    rows[:, dimension] = values.to(rows)
    return rows.view(len(values), *latent.shape[1:])
