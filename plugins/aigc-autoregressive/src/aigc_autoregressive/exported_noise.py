"""Noise keyed by seed and place, as in `noise.py`, for the Python files beside exported programs. Needs NumPy alone.

Shapes: B batch, P places.
"""

from collections.abc import Sequence

import numpy as np
from aigc_lightning.core.exported_files import Array


def uniform(seeds: Sequence[int], places: Sequence[int] | Array, count: int) -> Array:
    """Return numbers in [0, 1) keyed by seed, place and number, float64 (B, P, `count`).

    A key is mixed by a round of SplitMix64 for each of its parts.
    """
    state = np.zeros((), np.uint64)
    keys = np.array(seeds, np.uint64)[:, None, None], np.array(places, np.uint64)[:, None]
    with np.errstate(over="ignore"):
        for part in (*keys, np.arange(count, dtype=np.uint64)):
            state = (state ^ part) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    numbers: Array = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def gumbel(seeds: Sequence[int], places: Sequence[int] | Array, count: int) -> Array:
    """Return standard Gumbel noise with the keys of `uniform`, float32 (B, P, `count`)."""
    return to_gumbel(uniform(seeds, places, count))


def to_gumbel(numbers: Array) -> Array:
    """Return the finite Gumbel noise, float32, that belongs to numbers in [0, 1)."""
    noise: Array = -np.log(-np.log(np.maximum(numbers, 2.0**-54)))
    return noise.astype(np.float32)
