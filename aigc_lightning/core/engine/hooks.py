"""Whether hooks are in use: unused ones need not be called at every update."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

from aigc_lightning.core.engine.distributed import PlayersStrategy

_PRECISIONS = (Precision, DoublePrecision, HalfPrecision, MixedPrecision)
_HOOKS = ("on_before_backward", "on_after_backward")


def backward_is_plain(model: pl.LightningModule) -> bool:
    """Whether `manual_backward` does no more than scale the loss and call its `backward`."""
    trainer = model.trainer
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a helper of the trainer
    return (
        not any(_is_changed(callback, hook, pl.Callback) for callback in callbacks for hook in _HOOKS)
        and not any(_is_changed(model, name, pl.LightningModule) for name in (*_HOOKS, "manual_backward"))
        and type(trainer.precision_plugin) in _PRECISIONS
        and type(trainer.strategy) in (SingleDeviceStrategy, PlayersStrategy)
        and type(trainer.profiler) is PassThroughProfiler  # type: ignore[attr-defined]  # as above
    )


def _is_changed(thing: Any, name: str, base: type) -> bool:
    """Whether a class or an instance overrides a method of the base class."""
    return getattr(getattr(thing, name), "__func__", None) is not getattr(base, name)
