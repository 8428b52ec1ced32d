"""Convolutions with weight normalisation, which start from the statistics of data.

Paper: Salimans and Kingma, NIPS 2016, https://arxiv.org/abs/1602.07868, equation 2 and section 3
Departs from the paper: in nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Window(NamedTuple):
    """The pixels that a convolution sees: `rows` up to its own, and columns around its own.

    Args:
        rows: height of the kernel; its last row is the pixel's own.
        left: columns to the left of the pixel.
        right: columns to the right of it.
    """

    rows: int = 1
    left: int = 0
    right: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.rows, self.left + 1 + self.right


#: The pixel alone.
PIXEL = Window()


class WeightNormConv2d(nn.Module):
    """Convolution over a window, with weights gain * direction / |direction| for each output channel.

    Args:
        in_channels: of the features.
        out_channels: of the result.
        window: what it sees; outside the image there are zeros.
        stride: 2 keeps the pixels of even rows and columns.
        start_scale: standard deviation of the result after `start_from`, and factor of the gains before it.
    """

    _out_axis = 0

    def __init__(
        self, in_channels: int, out_channels: int, window: Window = PIXEL, stride: int = 1, start_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.window, self.stride, self.start_scale = window, stride, start_scale
        shape = [out_channels, in_channels, *window.size]
        if self._out_axis == 1:
            shape[:2] = in_channels, out_channels
        self.direction = nn.Parameter(torch.empty(shape).normal_(std=0.05))
        self.gain = nn.Parameter(torch.full((out_channels,), start_scale))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, `out_channels`, H / stride, W / stride), sizes rounded up."""
        return self.convolve(features, self.weight(), self.bias)

    def weight(self) -> Tensor:
        """Return the kernel, normalised and multiplied by the gains."""
        return self._normalised(self.gain)

    @torch.no_grad()
    def start_from(self, features: Tensor) -> None:
        """Choose gain and bias so that each channel of the result has mean 0 and deviation `start_scale`."""
        result = self.convolve(features, self._normalised(torch.ones_like(self.gain)), None)
        deviation, mean = torch.std_mean(result, dim=(0, 2, 3))
        self.gain.copy_(self.start_scale / (deviation + 1e-5))
        self.bias.copy_(-mean * self.gain)

    def _normalised(self, gain: Tensor) -> Tensor:
        axes = [axis for axis in range(4) if axis != self._out_axis]
        shape = [1, 1, 1, 1]
        shape[self._out_axis] = -1
        norms: Tensor = torch.linalg.vector_norm(self.direction, dim=axes)
        return self.direction * (gain / norms).view(shape)

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what `forward` does, for a kernel that is at hand."""
        window = self.window
        if window.size != (1, 1):
            features = functional.pad(features, (window.left, window.right, window.rows - 1, 0))
        return functional.conv2d(features, weight, bias, self.stride)


class WeightNormConvTranspose2d(WeightNormConv2d):
    """The transposed convolution over a window: twice the size with a stride of 2, each pixel spread down and right."""

    _out_axis = 1

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what `forward` does, for a kernel that is at hand."""
        columns = self.window.size[1]
        if columns > 2:  # spread to the left as far as to the right
            return functional.conv_transpose2d(
                features, weight, bias, self.stride, padding=(0, 1), output_padding=(0, 1)
            )
        return functional.conv_transpose2d(features, weight, bias, self.stride)


def start_from_data(network: nn.Module, *inputs: Tensor | None) -> None:
    """Run a network once, in which each weight-normalised layer starts from the features that reach it.

    Args:
        network: with weight-normalised layers.
        inputs: of the network: a batch of training data.
    """

    def start(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, WeightNormConv2d)
        layer.start_from(arguments[0])

    layers = [layer for layer in network.modules() if isinstance(layer, WeightNormConv2d)]
    hooks = [layer.register_forward_pre_hook(start) for layer in layers]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
