"""Exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from torch import nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """Return a frozen copy in evaluation mode, the start of an average."""
    return deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, num_updates: int) -> None:
    """Move the average towards the network in place.

    The first updates use a smaller decay, min(decay, (1 + n) / (10 + n)), so that the random start is soon forgotten
    (the rule of TensorFlow's ExponentialMovingAverage). Buffers are copied, since they are statistics already.

    Args:
        average: made by `averaged_copy`.
        network: the trained network.
        decay: share of the average that is kept, from 0 to 1.
        num_updates: n, number of updates before this one.
    """
    kept = min(decay, (1 + num_updates) / (10 + num_updates))
    # One call for all tensors: several times faster than a loop over the layers.
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - kept)
    for target, source in zip(average.buffers(), network.buffers(), strict=True):
        target.copy_(source)
