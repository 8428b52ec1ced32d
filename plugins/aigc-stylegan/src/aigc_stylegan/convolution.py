"""Convolutions whose second derivatives are convolutions of the same kinds.

A convolution, its gradient by the input and its gradient by the weight are the derivatives of one form that is linear
in input, weight and output. So the derivatives of each of the three are the other two. PyTorch's own second derivative
takes the gradient by the weight for a convolution with a kernel as large as the image; the regularisers of StyleGAN2
need it at each of their updates. A factor of the weight belongs to the form, so that the derivatives keep the weight
itself, of which there is one, and not a scaled copy for each time that a network is used.
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
    """Return what `torch.nn.functional.conv2d` does, also in autocast.

    Args:
        features: (B, I, H, W).
        weight: (O, I, K, K).
        stride: 1, or 2 for half the size.
        padding: zeros around the features.
        scale: factor of the weight.
    """
    features = features.to(_kind(features, weight))
    if weight.shape[-1] == 1 and stride == 1:  # a product of matrices, without a copy in this layout
        return linear(features.permute(0, 2, 3, 1), _scaled(weight, scale, features)[:, :, 0, 0]).permute(0, 3, 1, 2)
    if not torch.is_grad_enabled():
        return conv2d(features, _scaled(weight, scale, features), stride=stride, padding=padding)
    result: Tensor = _Convolution.apply(features, weight, _Form(stride, padding, scale))
    return result


def convolve_between(features: Tensor, weight: Tensor) -> Tensor:
    """Put zeros between the pixels and convolve, also in autocast: `conv_transpose2d` of the transposed weight.

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
    """Return a scaled weight in the type of features."""
    return (weight if scale == 1 else weight * scale).to(like.dtype)


def _gradients(
    output: Tensor, features: Tensor, weight: Tensor, form: _Form, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Return the gradients by features and weight, as far as they are wanted, of the sum of output * convolution."""
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
    """The gradient (B, I, H, W) by the input."""

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
    """The gradient (O, I, K, K) by the weight, in the weight's type."""

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
