"""Adversarial training over several processes.

Lightning's DDP wraps the whole model and expects one backward pass per step; players have one each. Here every process
computes the gradient of its share of the batch, and the engine averages a player's gradients when they are complete:
one exchange per update, whatever the loss does (several forward passes, second derivatives, micro-batches).
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.distributed.constants import default_pg_timeout

from aigc_lightning import compat
from aigc_lightning.compat import LauncherOfItsOwn
from aigc_lightning.core.engine.shared_memory import SharedMemory, open_shared_memory
from aigc_lightning.core.run.spawn_launcher import SpawnLauncher
from aigc_lightning.errors import UserError

#: Gradients are sent in buckets of about this size: large enough to use the link, small enough to need little memory.
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

    _shared_memory: SharedMemory | None = None

    def configure_ddp(self) -> None:
        """Wrap nothing; broadcast the first process's weights to all others."""
        assert self.model is not None
        if self.root_device.type == "cpu":
            self._shared_memory = open_shared_memory(compat.timeout(self) or default_pg_timeout)
        with torch.no_grad():
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                dist.broadcast(tensor.data, src=0)

    @property
    def sum_(self) -> Callable[[Tensor], None]:
        """What replaces a contiguous tensor by its sum over all processes."""
        return _all_reduce if self._shared_memory is None else self._shared_memory.sum_

    def teardown(self) -> None:
        """Give up the memory that the processes share."""
        if self._shared_memory is not None:
            self._shared_memory.close()
            self._shared_memory = None
        super().teardown()


def joint_sum(strategy: Strategy) -> Callable[[Tensor], None]:
    """Return what replaces a contiguous tensor by its sum over all processes of a strategy."""
    return strategy.sum_ if isinstance(strategy, PlayersStrategy) else _all_reduce


def _all_reduce(tensor: Tensor) -> None:
    dist.all_reduce(tensor)


def with_zeros(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of parameters, zeros where there is none."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    return gradients


def average_gradients(parameters: Iterable[nn.Parameter], sum_: Callable[[Tensor], None]) -> None:
    """Replace gradients by their mean over all processes, in place.

    A missing gradient counts as zero, so that every process takes part in every exchange.

    Args:
        parameters: the same ones in the same order in every process.
        sum_: replaces a tensor by its sum over all processes.
    """
    world_size = dist.get_world_size()
    for bucket in _buckets(with_zeros(parameters)):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        sum_(flat)
        flat /= world_size
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        torch._foreach_copy_(bucket, [part.view_as(gradient) for part, gradient in zip(parts, bucket, strict=True)])


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield groups of consecutive tensors of one dtype, each of about `_BUCKET_BYTES`."""
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
