"""Micro-batches for models with automatic optimization: Lightning takes one step per batch, we split it.

Lightning calls `training_step` once per batch and then `optimizer_zero_grad`, `backward` and the optimizer. Here the
instance's `training_step` runs the author's on one part after the other, with a backward pass after each but the last,
whose loss goes back to Lightning. So its hooks, loss scaling, clipping and counting of steps stay as they are, and with
DDP, which waits for gradients only after the whole step, they are exchanged once, when they are complete.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from aigc_lightning.core.batch import batch_size
from aigc_lightning.core.engine.autocast import without_autocast
from aigc_lightning.core.memory.micro_batches import split
from aigc_lightning.core.memory.sharding import ShardedStrategy
from aigc_lightning.core.run.seed import run_seed, seed_everywhere
from aigc_lightning.core.window import Window
from aigc_lightning.errors import UserError


def split_steps(model: Any) -> None:
    """Let a model with automatic optimization take its training steps in micro-batches.

    Args:
        model: an `ImageModel` whose trainer is about to fit; its class stays as it is.

    Raises:
        UserError: something else acts on when gradients are zeroed or exchanged.
    """
    trainer = model.trainer
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            "Both engine.micro_batches and trainer.accumulate_grad_batches are given.",
            "Leave accumulate_grad_batches out, and multiply data.batch_size and engine.micro_batches by it.",
        )
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and getattr(strategy.model, "static_graph", False):
        raise UserError(
            "static_graph of the strategy fixes the number of backward passes of a step, and engine.micro_batches "
            "changes it.",
            "Leave static_graph out.",
        )
    # Partials of functions, unlike closures, are copied with the model.
    model.training_step = partial(_step_in_parts, model)
    model.training_step.__wrapped__ = type(model).training_step  # Lightning looks at its signature
    model.optimizer_zero_grad = _nothing


def _step_in_parts(model: Any, batch: Any, *rest: Any) -> Any:
    """Return the output of the last micro-batch, with the loss of the whole batch.

    The gradient of that loss is the last part's; those of the others are already in place.
    """
    whole: Window = model._window
    start, done = whole.start, None
    _zero_grad(model, *rest)
    world_size, num_parts = model.trainer.world_size, model.engine.micro_batches
    parts = split(batch, num_parts)
    sizes = [batch_size(part) for part in parts]
    if isinstance(model.trainer.strategy, ShardedStrategy):  # all processes have to compute equally often
        surplus = min(num_parts, -(-whole.total // world_size)) - len(parts)
        parts, sizes = [*parts, *parts[:1] * surplus], [*sizes, *[0] * surplus]
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        model._window = Window(weight=size * world_size / whole.total, start=start, total=whole.total)
        if len(parts) > 1:
            seed_everywhere(run_seed(), model.step, start)
        output = type(model).training_step(model, part, *rest)
        if output is None:  # the author skips the batch
            _zero_grad(model, *rest)
            return None
        loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
        if number < len(parts) - 1:
            with without_autocast(loss.device):
                model.trainer.strategy.backward(loss, None)
        loss = loss if done is None else loss + done
        start, done = start + size, loss.detach()
    model._window = replace(whole, draws=model._window.draws)  # for hooks that come after the step
    return {**output, "loss": loss} if isinstance(output, Mapping) else loss


def _zero_grad(model: Any, batch_idx: int = 0, *_: Any) -> None:
    """Zero the gradients as Lightning does."""
    trainer = model.trainer
    type(model).optimizer_zero_grad(model, trainer.current_epoch, batch_idx, trainer.optimizers[0])


def _nothing(*_: Any) -> None:
    """Take the place of `optimizer_zero_grad`: Lightning calls it when parts have had their backward pass."""
