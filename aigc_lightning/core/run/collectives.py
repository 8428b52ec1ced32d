"""Collective operations over all processes of a run."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from aigc_lightning.core.async_read import Late, waits

Value = TypeVar("Value")


def joint_means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return weighted means over all processes; a collective operation.

    Args:
        sums: by name, this process's sum of weight times value, and its sum of weights.
    """
    parts = everyones(sums)  # by name: a process may have values that another lacks
    means = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        totals, weights = zip(*(part[name] for part in parts if name in part), strict=True)
        means[name] = sum(totals) / sum(weights)
    return means


def everyones(value: Value) -> list[Value]:
    """Gather one object from each process, in rank order; every process must call this."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    found = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def share_tensors(tensors: Iterable[Tensor]) -> None:
    """Give all processes the first one's values; every process must call this with tensors of the same shapes.

    Of a tensor that is sharded, each process keeps its part.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    from torch.distributed.tensor import DTensor  # takes a moment, which a single process need not wait

    for tensor in tensors:
        if not isinstance(tensor, DTensor):
            dist.broadcast(tensor, src=0)


class Poll:
    """Computes the maximum over all processes from time to time, without waiting for a device."""

    def __init__(self) -> None:
        self._asked: Late | None = None

    def largest(self, number: int, device: torch.device) -> int:
        """Return the maximum over all processes; a collective operation.

        On a GPU it is the result of the previous call, 0 at first: this call's result has not arrived yet.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return number
        numbers = torch.full((1,), int(number), device=device)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        asked = Late(numbers)
        if not waits(device):
            return int(asked.read()[0])
        former, self._asked = self._asked, asked
        return 0 if former is None else int(former.read()[0])
