"""Layers with channels: where they are in inputs, outputs and weights.

Shapes: I input and O output channels.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

#: Whether a channel enters a layer or leaves it.
Side = Literal["in", "out"]
_SIDES: tuple[Side, Side] = ("in", "out")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def is_dense(layer: nn.Module) -> bool:
    """Return whether each output channel of a layer depends on every input channel."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, _CONVOLUTIONS + _TRANSPOSED) and layer.groups == 1)


def is_channelwise(layer: nn.Module) -> bool:
    """Return whether a layer keeps channels apart, as far as its weights are concerned."""
    if isinstance(layer, _CONVOLUTIONS):
        return 1 < layer.groups == layer.in_channels == layer.out_channels
    return isinstance(layer, _NORMS)


def channel_axis(layer: nn.Module) -> int:
    """Return the axis of inputs and outputs that counts channels."""
    return -1 if isinstance(layer, nn.Linear | nn.LayerNorm) else 1


def weight_axes(layer: nn.Module) -> dict[Side, int]:
    """Return the axes of a dense layer's weight."""
    return {"in": 0, "out": 1} if isinstance(layer, _TRANSPOSED) else {"in": 1, "out": 0}


def sizes(layer: nn.Module) -> dict[Side, int]:
    """Return the numbers of channels of a layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    axes = weight_axes(layer) if is_dense(layer) else dict.fromkeys(_SIDES, 0)
    return {side: weight.shape[axes[side]] for side in _SIDES}


def strengths(layer: nn.Module, side: Side) -> Tensor:
    """Return the norm of the weights of each channel of a layer, (O,) or (I,)."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    axis = weight_axes(layer)[side] if is_dense(layer) else 0
    return weight.detach().movedim(axis, 0).flatten(1).norm(dim=1) if weight.ndim > 1 else weight.detach().abs()


def selected(layer: nn.Module, name: str, value: Tensor, kept: Mapping[Side, list[int] | None]) -> Tensor:
    """Return a tensor of a layer with the channels to keep alone.

    Args:
        layer: dense or channelwise.
        name: of the tensor, ending in its name in the layer.
        value: the tensor.
        kept: numbers of the channels by side, in order; None for all.
    """
    if value.ndim == 0:  # the number of batches that a norm has seen
        return value
    if name.endswith("._u"):  # singular vectors of spectral norm, which are normalised when they are next used
        return _at(value, 0, kept["out"])
    if name.endswith("._v"):
        return _at(value.unflatten(0, (sizes(layer)["in"], -1)), 0, kept["in"]).flatten()
    if value.ndim == 1 or not is_dense(layer):
        return _at(value, 0, kept["out"])
    axes = weight_axes(layer)
    return _at(_at(value, axes["out"], kept["out"]), axes["in"], kept["in"])


def _at(value: Tensor, axis: int, numbers: list[int] | None) -> Tensor:
    return value if numbers is None else value.index_select(axis, torch.tensor(numbers, device=value.device))
