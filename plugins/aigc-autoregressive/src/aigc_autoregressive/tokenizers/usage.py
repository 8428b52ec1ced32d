"""How much of a codebook is used: functions of how often each code was chosen.

K is the number of codes.
"""

import torch
from torch import Tensor


def counts(indices: Tensor, num_codes: int) -> Tensor:
    """Return how often each code occurs in indices of any shape, int64 (K,)."""
    return torch.bincount(indices.flatten(), minlength=num_codes)


def usage(counts: Tensor) -> Tensor:
    """Return the share of the codes that were used at all, a scalar in [0, 1]."""
    return (counts > 0).double().mean()


def perplexity(counts: Tensor) -> Tensor:
    """Return the exponential of the codes' entropy: K where all are used equally often, 1 where one alone is used.

    Args:
        counts: (K,), of at least one code in all.
    """
    shares = counts.double() / counts.sum()
    return torch.exp(-torch.special.xlogy(shares, shares).sum())


def dead_codes(counts: Tensor) -> Tensor:
    """Return the numbers of the codes that were never used, int64."""
    return (counts == 0).nonzero().flatten()
