"""Networks whose parameters, gradients and optimizer states are shared out among processes (FSDP2, `fully_shard`).

Each process keeps a part of every parameter. A block's whole parameters are there only while it computes. Whatever is
saved is whole, in one ordinary file, so a checkpoint does not depend on the number of processes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from aigc_lightning import compat
from aigc_lightning.core.memory.recomputation import outermost_blocks
from aigc_lightning.errors import UserError

#: Attributes of a model that hold moving averages: networks that are not trained, but follow those that are.
_AVERAGES = ("averages", "other_averages")


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with checkpoints like those of any other strategy.

    The networks are whole while they are validated, since processes may have different numbers of held-out batches.

    Args:
        world_size: number of processes.
        timeout: how long processes wait for one another.
    """

    def __init__(self, world_size: int, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(data_parallel_size=world_size, tensor_parallel_size=1, timeout=timeout)
        self._validating = _Whole()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Let Lightning restore the optimizers by `load_optimizer_state_dict`."""
        return True

    def setup(self, trainer: pl.Trainer) -> None:
        """Check that everything that is trained has been sharded.

        Raises:
            UserError: there are other parameters, whose gradients nobody would exchange.
        """
        super().setup(trainer)
        assert self.model is not None
        plain = [n for n, p in self.model.named_parameters() if p.requires_grad and not isinstance(p, DTensor)]
        if plain:
            raise UserError(
                f"{type(self.model).__name__} has the parameter {plain[0]} outside its networks, where it is not "
                "sharded.",
                "Use --trainer.strategy ddp.",
            )
        for network in callable_networks(self.model).values():
            if isinstance(network, FSDPModule):
                # Otherwise its first forward pass does this, which parts of it may precede.
                compat.initialize_sharding(network)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return all weights, whole; a collective operation."""
        assert self.lightning_module is not None
        return {name: _whole(value) for name, value in self.lightning_module.state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimizer's state with whole tensors; a collective operation."""
        own = getattr(optimizer, "optimizer", optimizer)  # Lightning hands out wrapped ones
        return cast(dict[str, Any], _mapped(own.state_dict(), _whole))

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Save one file, in the first process."""
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the content of a file, in each process."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each process its parts of the weights."""
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        weights = {name: _like(value, own.get(name)) for name, value in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(weights, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each process its parts of the optimizers' states."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                number: {name: _like(value, parameters[number]) for name, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})

    def on_validation_start(self) -> None:
        """Collect the weights."""
        assert self.lightning_module is not None
        self._validating.begin(self.lightning_module)

    def on_validation_end(self) -> None:
        """Let go of the parts of other processes again."""
        self._validating.end()


def callable_networks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a model holds, by name; of lists and mappings their members, which can be called."""
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleDict | nn.ModuleList):
            found |= {f"{name}.{key}": part for key, part in callable_networks(child).items()}
        else:
            found[name] = child
    return found


def shard_networks(model: nn.Module, classes: tuple[type[nn.Module], ...], mesh: DeviceMesh) -> None:
    """Share out the trained networks of a model and their averages, in place, with the first process's values.

    Args:
        model: networks that are not trained stay whole.
        classes: of the blocks that are collected one by one.
        mesh: one-dimensional, of all processes.
    """
    for name, network in callable_networks(model).items():
        is_average = name.partition(".")[0] in _AVERAGES
        if isinstance(network, FSDPModule) or not (is_average or any(p.requires_grad for p in network.parameters())):
            continue
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.data = tensor.data.to(mesh.device_type).contiguous()  # shards have no memory formats
                dist.broadcast(tensor.data, src=0)
        for block in outermost_blocks(network, classes):
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)


@contextmanager
def whole_networks(model: nn.Module) -> Iterator[None]:
    """Keep all networks of a model whole meanwhile, so that processes may compute different things with them.

    All processes enter and leave it together. It does nothing where no network is sharded.
    """
    whole = _Whole()
    whole.begin(model)
    try:
        yield
    finally:
        whole.end()


class _Whole:
    """A span of time in which networks are whole."""

    def __init__(self) -> None:
        self._modules: list[FSDPModule] = []

    def begin(self, model: nn.Module) -> None:
        self._modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for module in self._modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()

    def end(self) -> None:
        for module in self._modules:
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()
        self._modules = []


def _whole(value: Any) -> Any:
    """Return a tensor as one that holds all parts, on the CPU; anything else as it is."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    return value


def _like(value: Any, own: Any) -> Any:
    """Return a whole tensor distributed like the one whose place it takes."""
    if isinstance(own, DTensor) and isinstance(value, Tensor) and value.shape == own.shape:
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
    return value


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return [_mapped(item, change) for item in value] if isinstance(value, list) else change(value)
