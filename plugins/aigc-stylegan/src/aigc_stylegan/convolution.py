"""Convolutions with efficient second derivatives, which are convolutions themselves.

A convolution and its gradients with respect to input and weight are the partial derivatives of one form that is linear
in input, weight and output, so the derivatives of each are the other two. In second derivatives, PyTorch computes the
gradient with respect to the weight by a convolution with a kernel as large as the image; the regularisers of StyleGAN2
need it in each of their updates. The scale of the weight is part of the form, so that autograd saves the weight itself
and not a scaled copy for every use of a network.
Shapes: B batch, I channels in, O channels out, H and W height and width, K kernel size.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d, linear


class _Form(NamedTuple):
    stride: int
    padding: int
    scale: float = 1.0


def convolve(features: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, scale: float = 1.0) -> Tensor:
    """Like `torch.nn.functional.conv2d`, including under autocast.

    Args:
        features: (B, I, H, W).
        weight: (O, I, K, K).
        stride: 1, or 2 to halve the size.
        padding: zeros around the features.
        scale: factor of the weight.
    """
    features = features.to(_kind(features, weight))
    if weight.shape[-1] == 1 and stride == 1:  # a matrix product, without a copy in this layout
        return linear(features.permute(0, 2, 3, 1), _scaled(weight, scale, features)[:, :, 0, 0]).permute(0, 3, 1, 2)
    if not torch.is_grad_enabled():
        return conv2d(features, _scaled(weight, scale, features), stride=stride, padding=padding)
    result: Tensor = _Convolution.apply(features, weight, _Form(stride, padding, scale))
    return result


def convolve_up(features: Tensor, weight: Tensor) -> Tensor:
    """Insert zeros between pixels and convolve, including under autocast: `conv_transpose2d` of the transposed weight.

    Args:
        features: (B, I, H, W).
        weight: (O, I, K, K).

    Returns:
        (B, O, 2H + K - 2, 2W + K - 2).
    """
    kind = _kind(features, weight)
    features, weight = features.to(kind), weight.to(kind)
    weight = weight.transpose(0, 1).contiguous(memory_format=torch.channels_last)
    if not torch.is_grad_enabled():
        return conv_transpose2d(features, weight, stride=2)
    count, _, height, width = features.shape
    size, channels = weight.shape[-1], weight.shape[1]
    shape = torch.Size((count, channels, 2 * height + size - 2, 2 * width + size - 2))
    result: Tensor = _ByInput.apply(features, weight, _Form(2, 0), shape)
    return result


def _kind(features: Tensor, weight: Tensor) -> torch.dtype:
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _scaled(weight: Tensor, scale: float, like: Tensor) -> Tensor:
    """Return a scaled weight in the dtype of features."""
    return (weight if scale == 1 else weight * scale).to(like.dtype)


def _gradients(
    output: Tensor, features: Tensor, weight: Tensor, form: _Form, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return the requested gradients of sum(output * convolution) with respect to features and weight."""
    stride, padding = [form.stride] * 2, [form.padding] * 2
    first, second, _ = torch.ops.aten.convolution_backward(
        output, features, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    return first, second


class _Convolution(Function):
    """The convolution of features (B, I, H, W) and a scaled weight (O, I, K, K)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, form: _Form) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.form = form
        with torch.autocast(features.device.type, enabled=False):
            scaled = _scaled(weight, form.scale, features)
            return conv2d(features, scaled, stride=form.stride, padding=form.padding)

    @staticmethod
    def backward(ctx: Any, output: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        by_features = by_weight = None
        if ctx.needs_input_grad[0]:
            by_features = _ByInput.apply(output, weight, ctx.form, features.shape)
        if ctx.needs_input_grad[1]:
            by_weight = _ByWeight.apply(output, features, ctx.form, weight.shape, weight.dtype)
        return by_features, by_weight, None


class _ByInput(Function):
    """The gradient (B, I, H, W) with respect to the input."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor, form: _Form, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(output, weight)
        ctx.form = form
        # Only its shape and its layout matter.
        features = torch.empty(shape, dtype=output.dtype, device=output.device, memory_format=torch.channels_last)
        return _gradients(output, features, _scaled(weight, form.scale, output), form, (True, False))[0]

    @staticmethod
    def backward(ctx: Any, features: Tensor) -> tuple[Tensor | None, ...]:
        output, weight = ctx.saved_tensors
        by_output = by_weight = None
        if ctx.needs_input_grad[0]:
            by_output = _Convolution.apply(features, weight, ctx.form)
        if ctx.needs_input_grad[1]:
            by_weight = _ByWeight.apply(output, features, ctx.form, weight.shape, weight.dtype)
        return by_output, by_weight, None, None


class _ByWeight(Function):
    """The gradient (O, I, K, K) with respect to the weight, in the weight's dtype."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, features: Tensor, form: _Form, shape: torch.Size, kind: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(output, features)
        ctx.form = form
        layout = torch.channels_last
        if form.stride == 2 and output.device.type == "cpu" and output.dtype == torch.float32:
            layout = torch.contiguous_format  # in which this one is several times as fast
            output, features = output.contiguous(), features.contiguous()
        weight = torch.empty(shape, dtype=output.dtype, device=output.device, memory_format=layout)
        gradient = _gradients(output, features, weight, form, (False, True))[1].to(kind)
        return gradient if form.scale == 1 else gradient.mul_(form.scale)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        output, features = ctx.saved_tensors
        by_output = by_features = None
        if ctx.needs_input_grad[0]:
            by_output = _Convolution.apply(features, weight, ctx.form)
        if ctx.needs_input_grad[1]:
            by_features = _ByInput.apply(output, weight, ctx.form, features.shape)
        return by_output, by_features, None, None, None
