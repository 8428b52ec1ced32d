"""Moving averages of a network's weights."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """Return a frozen copy in evaluation mode, the initial value of an average."""
    return deepcopy(network).requires_grad_(False).eval()


class MovingAverage:
    """Updates moving averages of one network.

    Floating-point parameters are averaged. Everything else is copied: buffers, which are statistics already or tables
    that must stay as they are, such as noise schedules, and parameters of whole numbers.

    Args:
        averages: made by `averaged_copy`.
        network: the trained network.

    Attributes:
        updates: number of updates done.
        images: number of training images that had been taken at the last update.
    """

    def __init__(self, averages: Sequence[nn.Module], network: nn.Module) -> None:
        self.updates = self.images = 0
        self._followed: list[Tensor] = [
            parameter for parameter in network.parameters() if parameter.is_floating_point()
        ]
        self._kept: list[list[Tensor]] = [
            [parameter for parameter in average.parameters() if parameter.is_floating_point()] for average in averages
        ]
        self._copied: list[tuple[Tensor, Tensor]] = []
        self._with_buffers: list[tuple[nn.Module, nn.Module]] = []  # walking all modules is slow
        for average in averages:
            pairs = zip(average.parameters(), network.parameters(), strict=True)
            self._copied += [pair for pair in pairs if not pair[0].is_floating_point()]
            modules = zip(average.modules(), network.modules(), strict=True)
            self._with_buffers += [pair for pair in modules if pair[0]._buffers]

    @torch.no_grad()
    def update(self, kept: Sequence[float]) -> None:
        """Update the averages in place.

        Args:
            kept: for each average, the fraction of it that is kept, from 0 to 1.
        """
        for average, fraction in zip(self._kept, kept, strict=True):
            # One call for all tensors: several times faster than a loop over the layers.
            torch._foreach_lerp_(average, self._followed, 1 - fraction)
        for target, source in self._copied:
            target.copy_(source)
        for module, twin in self._with_buffers:
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    buffer.copy_(twin._buffers[name])  # type: ignore[arg-type]  # its twin has it too
        self.updates += 1
