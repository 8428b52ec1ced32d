"""Choosing the strategy for training on several devices."""

from datetime import timedelta
from typing import Any

from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from aigc_lightning import compat
from aigc_lightning.core.engine.distributed import LaunchedDDPStrategy, PlayersStrategy
from aigc_lightning.core.memory.sharding import ShardedStrategy
from aigc_lightning.core.run.log import say
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.errors import UserError
from aigc_lightning.training.launch_check import num_devices
from aigc_lightning.training.trainer_values import listed

#: Callbacks that step, or change the steps of, a single optimizer.
_ONE_OPTIMIZER = (BatchSizeFinder, LearningRateFinder, GradientAccumulationScheduler, StochasticWeightAveraging)
_SHARDED = ("fsdp", "deepspeed", "modelparallel", "model_parallel", "sharded")
#: The name under which configs ask for FSDP2.
MODEL_PARALLEL = "model_parallel"
#: Precisions that Lightning offers with it.
_PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16-true", "16-true")


def started_safely(asked: Any, model: nn.Module) -> Any:
    """Return the requested strategy, or the nearest one with a start method that works.

    Args:
        asked: name or strategy.
        model: the model to train, which is sent to spawned processes.
    """
    label = asked if isinstance(asked, str) else type(asked).__name__
    method = _start_method(asked)
    if method == "fork":
        say(f"Strategy {label} becomes ddp: forked processes hang if other threads were running before.")
    elif method == "spawn" and any(is_parametrized(module) for module in model.modules()):
        say(f"Strategy {label} becomes ddp: torch cannot send {type(model).__name__}'s layers to other processes.")
    elif method == "spawn" and isinstance(asked, str):
        unused: Any = _unused_parameters(asked)
        return LaunchedDDPStrategy(start_method="spawn", **unused)
    else:
        return asked
    if isinstance(asked, DDPStrategy):
        compat.start_by_popen(asked)
        return asked
    return "_".join(["ddp", *label.split("_")[2:]])


def _start_method(asked: Any) -> str:
    """Return the start method of a DDP strategy, or "" for others."""
    if isinstance(asked, DDPStrategy):
        return compat.start_method(asked)
    methods = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork", "ddp_notebook": "fork"}
    name = str(asked).partition("_find_unused_parameters_")[0]
    return methods.get(name, "")


def _unused_parameters(asked: str) -> dict[str, bool]:
    _, found, value = asked.partition("_find_unused_parameters_")
    return {"find_unused_parameters": value == "true"} if found else {}


def automatic_strategy(trainer: dict[str, Any], *, fits: bool, timeout: int | None) -> Any:
    """Return the strategy for a model with one optimizer: what was asked for, or the one that `MODEL_PARALLEL` names.

    Args:
        trainer: the trainer's arguments.
        fits: whether a model is trained; in other stages each process has the whole model.
        timeout: seconds that processes wait for one another; None for the default.

    Raises:
        UserError: an option does not act on sharded networks, or Lightning's own strategies for them are asked for,
            whose checkpoints are not those of this package.
    """
    asked = trainer["strategy"]
    if isinstance(asked, FSDPStrategy | ModelParallelStrategy) or str(asked).startswith("fsdp"):
        label = asked if isinstance(asked, str) else type(asked).__name__
        raise UserError(
            f"The strategy {label} writes checkpoints that nothing else here reads.",
            f"Use --trainer.strategy {MODEL_PARALLEL}, which is FSDP2 with ordinary checkpoints.",
        )
    if asked != MODEL_PARALLEL:
        return asked
    world_size = num_devices(trainer) * int(trainer["num_nodes"])
    if world_size == 1 or not fits:
        return "auto" if world_size == 1 else "ddp"
    precision = str(trainer["precision"])
    if precision not in _PRECISIONS:
        raise UserError(
            f"The strategy {MODEL_PARALLEL} does not go with precision {precision}.",
            f"Use --trainer.precision {', '.join(_PRECISIONS[1:-1])} or {_PRECISIONS[-1]}.",
        )
    if trainer["sync_batchnorm"]:
        raise UserError(f"trainer.sync_batchnorm does not act with the strategy {MODEL_PARALLEL}.", "Leave it out.")
    for callback in listed(trainer["callbacks"]):
        if isinstance(callback, StochasticWeightAveraging):
            raise UserError(
                f"StochasticWeightAveraging copies whole networks, and {MODEL_PARALLEL} shards them.",
                "Leave one of them out.",
            )
    return ShardedStrategy(world_size, **({"timeout": timedelta(seconds=timeout)} if timeout else {}))


def adversarial_strategy(trainer: dict[str, Any], name: str) -> Any:
    """Return the strategy for a model whose networks are trained against each other.

    Args:
        trainer: the trainer's arguments.
        name: name of the model, for error messages.

    Returns:
        The requested strategy on one device, otherwise `PlayersStrategy` with the requested start method.

    Raises:
        UserError: the strategy, or an option, needs a single backward pass per step.
    """
    asked = trainer["strategy"]
    label = asked if isinstance(asked, str) else type(asked).__name__
    if label.lower().startswith(_SHARDED):
        raise UserError(
            f"{name} trains several networks against each other, which {label} cannot do: it takes one optimizer.",
            "Use --trainer.strategy auto.",
        )
    if trainer["gradient_clip_val"] is not None:
        raise UserError(
            f"trainer.gradient_clip_val acts on one backward pass a step, and {name} has one a network.",
            f"Use --engine.clip_norm {trainer['gradient_clip_val']}.",
        )
    if trainer["gradient_clip_algorithm"] is not None:
        raise UserError(
            f"trainer.gradient_clip_algorithm needs one backward pass per step, but {name} has one per network.",
            "Use --engine.clip_norm NORM, which clips each network's gradient by its norm.",
        )
    for callback in listed(trainer["callbacks"]):
        if isinstance(callback, _ONE_OPTIMIZER):
            raise UserError(
                f"{type(callback).__name__} works with one optimizer, but {name} has one per network.",
                "Leave the callback out.",
            )
    if isinstance(asked, PlayersStrategy):
        return asked
    chosen = _lightnings_choice(trainer)
    if isinstance(chosen, SingleDeviceStrategy):
        return asked
    if not isinstance(chosen, DDPStrategy):
        raise UserError(f"{name} cannot be trained with the strategy {label}.", "Use --trainer.strategy auto.")
    if asked != "auto":
        say(f"Strategy {label} becomes PlayersStrategy: {name} averages the gradients of each network separately.")
    return PlayersStrategy(start_method=compat.start_method(chosen), timeout=compat.timeout(chosen))


def _lightnings_choice(trainer: dict[str, Any]) -> Any:
    """Return the strategy that Lightning would choose for the requested devices."""
    keys = ("accelerator", "strategy", "devices", "num_nodes", "precision", "plugins")
    return silent_trainer(**{key: trainer[key] for key in keys}).strategy
