"""Strided convolutions next to images, whose few channels are the slow case of those that torch has for CPUs.

oneDNN computes images from feature maps of half the size, and the gradients of images by such feature maps, at a tenth
of the speed of wide layers. One matrix product and a few sums of moved maps are 1.2 to 5 times as fast with 1 to 4
channels. Results differ by rounding alone. GPUs, autocast and exported graphs use torch's own.

Shapes: B batch, C channels of images, F channels of feature maps, K size of the kernel, H and W of images, h and w of
feature maps.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: With more channels, torch's convolutions are as fast.
_FEW_CHANNELS = 4


class ImageConv2d(nn.Conv2d):
    """A strided convolution of images, (B, C, H, W), to feature maps, (B, F, h, w).

    Args:
        channels: C.
        width: F.
        size: K, a multiple of the stride.
        stride: in both directions.
        padding: zeros at each border.
    """

    def __init__(self, channels: int, width: int, size: int, stride: int, padding: int) -> None:
        super().__init__(channels, width, size, stride, padding)
        self._geometry = (stride, padding)

    def forward(self, images: Tensor) -> Tensor:
        """Return feature maps of images."""
        stride, padding = self._geometry
        exact = all((side + 2 * padding - self.kernel_size[0]) % stride == 0 for side in images.shape[-2:])
        if not images.requires_grad or not exact or not _is_slow(images, self.in_channels):
            return super().forward(images)
        return _with_bias(_FromImages.apply(images, self.weight, stride, padding), self.bias)


class ImageConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of feature maps, (B, F, h, w), to images, (B, C, H, W).

    Args:
        width: F.
        channels: C.
        size: K, a multiple of the stride.
        stride: in both directions.
        padding: rows and columns that are left out at each border.
        bias: whether to add a bias.
    """

    def __init__(self, width: int, channels: int, size: int, stride: int, padding: int, bias: bool = True) -> None:
        super().__init__(width, channels, size, stride, padding, bias=bias)
        self._geometry = (stride, padding)

    def forward(self, features: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return images of feature maps.

        Args:
            features: the feature maps.
            output_size: H and W, where several sizes have feature maps of this size; by default the smallest.
        """
        stride, padding = self._geometry
        smallest = [(side - 1) * stride + self.kernel_size[0] - 2 * padding for side in features.shape[-2:]]
        wanted = smallest if output_size is None else list(output_size)
        if wanted != smallest or not _is_slow(features, self.out_channels):
            return super().forward(features, wanted)
        return _with_bias(_ToImages.apply(features, self.weight, stride, padding), self.bias)


def _is_slow(maps: Tensor, channels: int) -> bool:
    """Return whether torch's convolutions are slow with images of these channels, and may be replaced."""
    few = channels <= _FEW_CHANNELS and maps.is_cpu
    return few and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_exporting()


def _with_bias(maps: Tensor, bias: Tensor | None) -> Tensor:
    return maps if bias is None else maps + bias[:, None, None]


class _ToImages(torch.autograd.Function):
    """The transposed convolution of feature maps (B, F, h, w) to images by a kernel (F, C, K, K), without bias."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(features, kernel)
        ctx.geometry = stride, padding
        return _images_of(features, kernel, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, kernel = ctx.saved_tensors
        of_features = _FromImages.apply(gradients[0], kernel, *ctx.geometry) if ctx.needs_input_grad[0] else None
        return of_features, _kernel_gradient(ctx, gradients[0], features, kernel, transposed=True), None, None


class _FromImages(torch.autograd.Function):
    """The convolution of images (B, C, H, W) to feature maps by a kernel (F, C, K, K), without bias."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, kernel)
        ctx.geometry = stride, padding
        return functional.conv2d(images, kernel, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, kernel = ctx.saved_tensors
        of_images = _ToImages.apply(gradients[0], kernel, *ctx.geometry) if ctx.needs_input_grad[0] else None
        return of_images, _kernel_gradient(ctx, gradients[0], images, kernel, transposed=False), None, None


def _kernel_gradient(ctx: Any, gradient: Tensor, maps: Tensor, kernel: Tensor, *, transposed: bool) -> Tensor | None:
    """Return the gradient of the kernel by that of the output, where it is needed; torch's is fast."""
    if not ctx.needs_input_grad[1]:
        return None
    stride, padding = ([number] * 2 for number in ctx.geometry)
    mask = [False, True, False]
    of_kernel: Tensor = torch.ops.aten.convolution_backward(
        gradient, maps, kernel, None, stride, padding, [1, 1], transposed, [0, 0], 1, mask
    )[1]
    return of_kernel


def _images_of(features: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """Return the transposed convolution (B, C, H, W) of feature maps (B, F, h, w) by a kernel (F, C, K, K).

    Row i of the feature maps adds kernel row k to row stride * i + k of the output, counted from the padding. With
    k = stride * tap + phase that is row i + tap of the phase, so all taps of a phase are added, each moved by itself,
    and then the phases are interleaved.
    """
    batch, inputs, height, width = features.shape
    channels, taps = kernel.shape[1], kernel.shape[2] // stride
    by_tap = kernel.reshape(inputs, channels, taps, stride, taps, stride).permute(2, 4, 1, 3, 5, 0)
    parts = by_tap.reshape(-1, inputs) @ features.flatten(2)
    parts = parts.view(batch, taps, taps, channels * stride**2, height, width)
    phases = parts.new_zeros(batch, channels * stride**2, height + taps - 1, width + taps - 1)
    for row, column in product(range(taps), repeat=2):
        phases[..., row : row + height, column : column + width] += parts[:, row, column]
    images = functional.pixel_shuffle(phases, stride)
    full_height, full_width = images.shape[-2:]
    return images[..., padding : full_height - padding, padding : full_width - padding].contiguous()
