"""Exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """Return a frozen copy in evaluation mode, the initial value of an average."""
    return deepcopy(network).requires_grad_(False).eval()


class MovingAverage:
    """Updates the moving average of a network.

    Args:
        average: made by `averaged_copy`.
        network: the trained network.
    """

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        self._kept: list[Tensor] = [*average.parameters()]
        self._followed: list[Tensor] = [*network.parameters()]
        pairs = zip(average.modules(), network.modules(), strict=True)
        self._with_buffers = [pair for pair in pairs if pair[0]._buffers]  # walking all modules is slow

    @torch.no_grad()
    def update(self, decay: float, num_updates: int) -> None:
        """Update the average in place; buffers are copied, since they are already statistics.

        The first updates use a smaller decay, min(decay, (1 + n) / (10 + n)), so that the random start is soon
        forgotten (the rule of TensorFlow's ExponentialMovingAverage).

        Args:
            decay: fraction of the average that is kept, from 0 to 1.
            num_updates: n, the number of updates before this one.
        """
        kept = min(decay, (1 + num_updates) / (10 + num_updates))
        # One call for all tensors: several times faster than a loop over the layers.
        torch._foreach_lerp_(self._kept, self._followed, 1 - kept)
        for target, source in self._with_buffers:
            for name, buffer in target._buffers.items():
                if buffer is not None:
                    buffer.copy_(source._buffers[name])  # type: ignore[arg-type]  # its twin has it too
