"""What fused optimizer kernels require and offer: memory layouts, and steps that change nothing."""

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer


def use_fused(optimizer: Optimizer) -> None:
    """Switch Adam to its fused kernels, which can skip a step, unless the model's author chose otherwise.

    Args:
        optimizer: its parameters are on a GPU; its state may have been loaded already.
    """
    if type(optimizer) not in (Adam, AdamW):
        return
    for group in optimizer.param_groups:
        chosen = group["foreach"] is not None or group["capturable"] or group["differentiable"]
        if group["fused"] is None and not chosen:
            group["fused"] = True
    if all(group["fused"] for group in optimizer.param_groups):
        optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]  # what `Adam(fused=True)` sets
        for parameter, state in optimizer.state.items():
            state["step"] = state["step"].to(parameter.device, torch.float32)


def lay_out_state(optimizer: Optimizer) -> None:
    """Give the optimizer's state of each parameter the memory layout of the parameter.

    Fused kernels take this for granted and mix up numbers otherwise, as with a checkpoint that was written when the
    network had another memory format.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def can_leave_out(optimizer: Optimizer) -> bool:
    """Whether an optimizer's kernels can skip a step, as GradScaler requires."""
    # Fused SGD assumes that the momentum was computed in a first step that it skipped.
    momentum = isinstance(optimizer, SGD) and any(group["momentum"] for group in optimizer.param_groups)
    return getattr(optimizer, "_step_supports_amp_scaling", False) and not momentum


def step_unless(optimizer: Optimizer, unless: Tensor) -> None:
    """Take a step, or change nothing if the tensor is 1."""
    optimizer.grad_scale, optimizer.found_inf = None, unless  # type: ignore[attr-defined]  # as GradScaler does
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
