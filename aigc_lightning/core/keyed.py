"""Random numbers as pure functions of a key.

A number is determined by its key, such as (seed, epoch, sample, draw), rather than by how many numbers were drawn
before it. So a run that is resumed or uses more processes or loader workers sees the same numbers.

The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), applied once per part of the key.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ALL = 2**64 - 1

UInts = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


def hashed(*key: int | npt.NDArray[np.integer]) -> UInts:
    """Return 64 well-mixed bits for each key.

    Args:
        key: non-negative integers or integer arrays, broadcast against each other.

    Returns:
        uint64 array of the broadcast shape (0-d for plain integers).
    """
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for part in key:
            state = (state ^ np.asarray(part).astype(np.uint64)) + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return state


def mixed(*key: int) -> int:
    """Return the value of `hashed` for plain integers, without the overhead of arrays."""
    state = 0
    for part in key:
        state = ((state ^ (part & _ALL)) + 0x9E3779B97F4A7C15) & _ALL
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _ALL
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _ALL
        state ^= state >> 31
    return state


def uniform(*key: int | npt.NDArray[np.integer]) -> Floats:
    """Return a float64 in [0, 1) for each key, with the broadcasting of `hashed`."""
    return (hashed(*key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(*key: int) -> torch.Generator:
    """Return a CPU generator seeded by the key, for streams of numbers under one key."""
    return torch.Generator().manual_seed(mixed(*key) >> 1)


def permutation(length: int, *key: int) -> Tensor:
    """Return a random permutation of `range(length)`, int64 (length,), that depends on the key only."""
    return torch.randperm(length, generator=generator(*key))


def normal(shape: tuple[int, ...], *key: int) -> Tensor:
    """Return standard normal float32 numbers of this shape, drawn on the CPU so that every device sees the same."""
    return torch.randn(shape, generator=generator(*key))
