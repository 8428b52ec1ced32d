"""Noise that is a function of what it decides, so that a seed is one picture.

A token is drawn by adding Gumbel noise to the logits and taking the largest (Gumbel-max). The noise is keyed by seed,
position and token: it depends neither on the other pictures of a batch nor on the order in which tokens are drawn.
It equals `aigc_lightning.core.keyed.uniform`, but the last part of the key, of which there are most, is mixed in by
torch on the device that needs it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from aigc_lightning.core import keyed
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed numbers, whose products and sums wrap round as unsigned ones do
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def uniform(seeds: Sequence[int], positions: Sequence[int], count: int, device: torch.device | None = None) -> Tensor:
    """Return numbers in [0, 1) keyed by (seed, position, place), float64 (B, P, `count`).

    Args:
        seeds: B numbers, one for each picture; from 0 to 2**64 - 1.
        positions: P numbers that name what is decided, such as the places of tokens in a sequence.
        count: numbers for each.
        device: where they are needed; devices without float64 get numbers from the processor.
    """
    states = keyed.hashed(np.array(seeds, np.uint64)[:, None], np.array(positions, np.uint64))
    home = torch.device("cpu") if device is None or device.type == "mps" else device
    state = torch.from_numpy(states.view(np.int64)).to(home).unsqueeze(-1)
    bits = _mix(state, torch.arange(count, device=home))
    return _shifted(bits, 11).double() * 2.0**-53


def gumbel(seeds: Sequence[int], positions: Sequence[int], count: int, device: torch.device | None = None) -> Tensor:
    """Return standard Gumbel noise with the keys of `uniform`, float32 (B, P, `count`)."""
    return to_gumbel(uniform(seeds, positions, count, device)).to(device=device, dtype=torch.float32)


def to_gumbel(uniform: Tensor) -> Tensor:
    """Return the finite Gumbel noise that belongs to numbers in [0, 1); in float32 some of them would round to 1."""
    return -torch.log(-torch.log(uniform.clamp_min(2.0**-54)))


def to_logistic(uniform: Tensor) -> Tensor:
    """Return the finite noise of the standard logistic distribution that belongs to numbers in [0, 1)."""
    return torch.logit(uniform.clamp_min(2.0**-54))


def _mix(state: Tensor, part: Tensor) -> Tensor:
    """Do one round of SplitMix64, as `keyed.hashed` does for each part of a key."""
    state = (state ^ part) + _GOLDEN
    state = (state ^ _shifted(state, 30)) * _MIX_1
    state = (state ^ _shifted(state, 27)) * _MIX_2
    return state ^ _shifted(state, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shift right, filling up with zeros instead of the sign."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
