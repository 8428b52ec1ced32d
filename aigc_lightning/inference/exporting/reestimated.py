"""Batch norms of a pruned model with the statistics of its own features instead of those of the wider one.

Paper: Li et al., EagleEye, ECCV 2020, https://arxiv.org/abs/2007.02491 (section 3.2: adaptive batch normalisation)
Shapes: B batch, C channels.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_norms(model: nn.Module, call: Callable[..., Any], batches: Iterable[Mapping[str, Tensor]]) -> int:
    """Give the batch norms that a call uses the mean statistics of what reaches them, and return how many there are.

    As in training, each norm normalises a batch by the batch's own statistics meanwhile, so that later ones see what
    they will see. Nothing else of the model changes.

    Args:
        model: whose norms are set.
        call: of the model, in evaluation mode.
        batches: its arguments by name, in batches of one size above 1.
    """
    sums: dict[_BatchNorm, list[Tensor]] = {}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
        features = inputs[0].transpose(0, 1).flatten(1).double()  # (C, B and places)
        found = [features.mean(1), features.var(1), torch.ones((), dtype=torch.float64)]
        sums[norm] = [a + b for a, b in zip(sums.get(norm, [torch.zeros(())] * 3), found, strict=True)]
        norm.running_mean.copy_(found[0])
        norm.running_var.copy_(features.var(1, correction=0))  # by which training divides

    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        for inputs in batches:
            call(**inputs)
    finally:
        for handle in handles:
            handle.remove()
        for norm, (mean, variance, count) in sums.items():
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(mean / count)
            norm.running_var.copy_(variance / count)
    return len(sums)
