"""Perceptual path length: how much a generator's images change along a path through its latent space.

Paper: Karras, Laine, Aila, A Style-Based Generator Architecture for GANs, CVPR 2019, section 4.1 (full paths:
arcs in Z, straight lines in W).
Departures from the paper: images are not cropped.
Shapes: N paths, B batch, Z latent size, C channels, H and W height and width in pixels.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core import keyed

_DISCARDED = 0.01  # fraction of the paths at each end


class PathLength(NamedTuple):
    """Mean and standard deviation over the paths, without the shortest and the longest 1 %."""

    mean: float
    std: float


def perceptual_path_length(
    decode: Callable[..., Tensor],
    first: Tensor,
    second: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    *,
    labels: Sequence[int] | None = None,
    straight: bool = False,
    epsilon: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
) -> PathLength:
    """Return the mean of d(G(p(t)), G(p(t + epsilon))) / epsilon^2, p(t) going from 0 to 1 along a path.

    Args:
        decode: turns latents (B, Z), and their labels if given, into images (B, C, H, W) that `distance` takes, not
            rounded to grey levels.
        first: latents (N, Z) at which paths begin, standard normal unless `straight`.
        second: latents (N, Z) at which paths end.
        distance: distance of two batches of images, (B,), quadratic like LPIPS.
        labels: the class of each path.
        straight: interpolate linearly, as between styles, instead of along arcs.
        epsilon: step along the path, whose length is 1.
        batch_size: number of paths at a time.
        seed: seed of the positions t on the paths.
    """
    between = _straight if straight else slerp
    places = torch.from_numpy(keyed.uniform(seed, torch.arange(len(first)).numpy()))
    found = []
    for start in range(0, len(first), batch_size):
        cut = slice(start, start + batch_size)
        near, far = (between(first[cut], second[cut], places[cut] + step) for step in (0.0, epsilon))
        classes = [] if labels is None else [labels[cut]]
        with torch.no_grad():
            found.append(distance(decode(near, *classes), decode(far, *classes)).double().cpu() / epsilon**2)
    lengths = torch.cat(found)
    low, high = lengths.quantile(torch.tensor([_DISCARDED, 1 - _DISCARDED]).double())
    kept = lengths[(lengths >= low) & (lengths <= high)]
    return PathLength(kept.mean().item(), kept.std(correction=0).item())


def interpolation_smoothness(
    decode: Callable[..., Tensor],
    first: Tensor,
    second: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    *,
    labels: Sequence[int] | None = None,
    straight: bool = False,
    steps: int = 16,
) -> float:
    """Return how evenly images change on paths: the mean over paths of their mean step divided by their largest.

    It is 1 if all steps of a path are equal, and 1 / steps if the whole path is one jump. A path on which nothing
    changes counts 1.

    Args:
        decode: as for `perceptual_path_length`.
        first: latents (N, Z) at which paths begin.
        second: latents (N, Z) at which they end.
        distance: distance of two batches of images, (B,), quadratic like LPIPS.
        labels: the class of each path.
        straight: interpolate linearly instead of along arcs.
        steps: number of steps of a path.
    """
    between = _straight if straight else slerp
    classes = [] if labels is None else [labels]
    lengths: list[Tensor] = []
    with torch.no_grad():
        images = decode(between(first, second, torch.zeros(len(first)).double()), *classes)
        for step in range(1, steps + 1):
            following = decode(between(first, second, torch.full((len(first),), step / steps).double()), *classes)
            lengths.append(distance(images, following).double().cpu().clamp(min=0).sqrt())
            images = following
    taken = torch.stack(lengths)
    largest = taken.max(dim=0).values
    evenness = torch.where(largest > 0, taken.mean(dim=0) / largest.clamp(min=1e-30), torch.ones_like(largest))
    return evenness.mean().item()


def slerp(first: Tensor, second: Tensor, place: Tensor) -> Tensor:
    """Return points on the arcs from first to second, on the sphere of radius sqrt(Z).

    Args:
        first: (B, Z).
        second: (B, Z), not opposite to first.
        place: (B,); 0 is first, 1 is second.

    Returns:
        (B, Z) in the dtype of first, of length sqrt(Z), the typical length of normal latents.
    """
    a, b = (torch.nn.functional.normalize(points.double(), dim=1) for points in (first, second))
    turn = torch.nn.functional.normalize(b - (a * b).sum(dim=1, keepdim=True) * a, dim=1)
    angle = (place.to(a.device) * (a * b).sum(dim=1).clamp(-1, 1).acos())[:, None]
    points: Tensor = (a * angle.cos() + turn * angle.sin()) * math.sqrt(first.shape[1])
    return points.to(first.dtype)


def _straight(first: Tensor, second: Tensor, place: Tensor) -> Tensor:
    """Return the points (B, Z) at positions (B,) on the lines from first to second."""
    return torch.lerp(first.double(), second.double(), place.to(first.device)[:, None]).to(first.dtype)
