"""Adversarial training over several processes.

Lightning's DDP wraps the whole model and expects one backward pass a step; players have one each. Here every process
computes the gradient of its share of the batch, and the engine averages a player's gradients when they are complete:
one exchange a player and update, whatever its loss does (several forwards, second derivatives, micro-batches).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from aigc_lightning.compat import LauncherOfItsOwn
from aigc_lightning.core.engine.async_read import Late, waits
from aigc_lightning.core.run.spawn_launcher import SpawnLauncher
from aigc_lightning.errors import UserError

Value = TypeVar("Value")
#: Gradients are sent in pieces of about this size: large enough to use the link, small enough to need little memory.
_BUCKET_BYTES = 32 * 2**20


class LaunchedDDPStrategy(LauncherOfItsOwn):
    """Lightning's DDP; the processes that it starts hear signals, and end, as those of any launcher.

    Takes the arguments of Lightning's `DDPStrategy`; `start_method` is "popen", "spawn" or "forkserver".

    Raises:
        UserError: the start method is "fork".
    """

    def own_launcher(self, start_method: str) -> SpawnLauncher | None:
        """Return the launcher of processes that are no copies of the command."""
        if start_method == "fork":
            raise UserError(
                "Forked processes hang where other threads ran before.", 'Use start_method "popen" or "spawn".'
            )
        return None if start_method == "popen" else SpawnLauncher(self, start_method)


class PlayersStrategy(LaunchedDDPStrategy):
    """Distributed training in which the engine of an `AdversarialModel` averages the gradients."""

    def configure_ddp(self) -> None:
        """Wrap nothing; make all processes start from the first one's weights."""
        assert self.model is not None
        with torch.no_grad():
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                dist.broadcast(tensor.data, src=0)


def with_zeros(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of parameters; those that have none get zeros."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    return gradients


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes, in place.

    A parameter that has no gradient in this process counts as zero, so that processes never wait for one another.

    Args:
        parameters: the same ones in the same order in every process.
    """
    world_size = dist.get_world_size()
    for bucket in _buckets(with_zeros(parameters)):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= world_size
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        torch._foreach_copy_(bucket, [part.view_as(gradient) for part, gradient in zip(parts, bucket, strict=True)])


def joint_means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return weighted means over all processes, called by all of them together.

    Args:
        sums: by name, this process's sum of weight times value, and its sum of weights.
    """
    parts = everyones(sums)  # by name: a process may have seen what another has not
    means = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        totals, weights = zip(*(part[name] for part in parts if name in part), strict=True)
        means[name] = sum(totals) / sum(weights)
    return means


def everyones(value: Value) -> list[Value]:
    """Return what each process gave, in the order of their ranks; every process must call this."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    found = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


class Poll:
    """Asks all processes now and then for the largest of their numbers, without waiting for a device."""

    def __init__(self) -> None:
        self._asked: Late | None = None

    def largest(self, number: int, device: torch.device) -> int:
        """Return the largest number of all processes, called by all of them together.

        On a GPU it is the answer to the question before, 0 at first: the answer to this one is not there yet.
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


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield neighbouring tensors of one type, about `_BUCKET_BYTES` together."""
    for _, group in groupby(tensors, key=lambda tensor: (tensor.dtype, tensor.device)):
        bucket: list[Tensor] = []
        size = 0
        for tensor in group:
            bucket.append(tensor)
            size += tensor.nbytes
            if size >= _BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket
