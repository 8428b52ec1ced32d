"""Activations that are computed again in the backward pass instead of being kept (Chen et al., 2016, arXiv:1604.06174).

Between the forward and the backward pass, a network's blocks keep their inputs only. Random numbers of the second
computation, such as those of dropout, are those of the first, so the gradients are the same bit for bit.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.utils.checkpoint import checkpoint

from aigc_lightning.errors import UserError


def outermost_blocks(model: nn.Module, classes: tuple[type[nn.Module], ...]) -> Iterator[nn.Module]:
    """Yield the modules of the given classes that lie in no other such module."""
    for child in model.children():
        if isinstance(child, classes):
            yield child
        else:
            yield from outermost_blocks(child, classes)


def recompute_activations(model: nn.Module, classes: tuple[type[nn.Module], ...]) -> None:
    """Let the blocks of a model compute their activations again in the backward pass, in place.

    Parameters and their names stay as they are. A block that has been prepared stays so.

    Args:
        model: whose blocks are meant.
        classes: of the blocks.

    Raises:
        UserError: the model has no such block, or one changes something in its forward pass, which would happen twice.
    """
    name = type(model).__name__
    blocks = list(outermost_blocks(model, classes))
    if not blocks:
        raise UserError(
            f"engine.checkpoint_activations is true, but {name} names no blocks to compute again.",
            "Use --engine.micro_batches to save memory.",
        )
    for block in blocks:
        if changing := next((part for part in block.modules() if _changes_in_forward(part)), None):
            raise UserError(
                f"engine.checkpoint_activations would compute {_shown(changing)} twice in a step, which changes it.",
                f"Choose another norm for {name}, or leave checkpoint_activations out.",
            )
    for block in blocks:
        if not isinstance(block.__dict__.get("forward"), partial):
            block.forward = partial(_forward, block.forward)  # not a wrapper, which would rename parameters


def _forward(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _changes_in_forward(module: nn.Module) -> bool:
    return isinstance(module, _SpectralNorm) or (isinstance(module, _BatchNorm) and module.track_running_stats)


def _shown(module: nn.Module) -> str:
    return "spectral norm" if isinstance(module, _SpectralNorm) else "batch norm"
