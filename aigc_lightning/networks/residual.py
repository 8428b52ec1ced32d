"""Residual blocks, reflecting convolutions, and padding to sizes that can be halved.

Shapes: B batch, F channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PreactivationBlock(nn.Module):
    """A residual block of two 3x3 convolutions (He et al., ECCV 2016, "full pre-activation").

    The second convolution is initialised to zero, so that a new block is the identity and no norm is needed (Zhang et
    al., Fixup, ICLR 2019).

    Args:
        channels: F, of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            nn.ReLU(),  # not in place: the sum needs its input
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            last,
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return feature maps (B, F, H, W) for feature maps of the same shape."""
        changes: Tensor = self.layers(features)
        return features + changes


class ReflectingConv2d(nn.Conv2d):
    """A convolution of any odd size with reflection padding, which by default preserves the size of feature maps.

    Unlike `padding_mode="reflect"` it pads in the precision of its input: autocast on CPUs pads in float32.

    Args:
        before: input channels.
        after: output channels.
        size: height and width of the kernel.
        bias: whether to add a bias.
        stride: by which height and width are divided, rounding up.
    """

    def __init__(self, before: int, after: int, size: int, bias: bool = True, stride: int = 1) -> None:
        super().__init__(before, after, size, stride, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return feature maps (B, after, H / stride, W / stride) for feature maps (B, before, H, W)."""
        border, device = [self.kernel_size[0] // 2] * 4, features.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                padded = functional.pad(features, border, mode="reflect")
        else:
            padded = functional.pad(features, border, mode="reflect")
        return super().forward(padded)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width of images (B, C, H, W) are multiples of a number."""
    height, width = images.shape[-2:]
    # An exported graph is for all sizes, so it pads by 0 where there is nothing to pad.
    if not torch.compiler.is_exporting() and height % multiple == 0 and width % multiple == 0:
        return images
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def crop(images: Tensor, height: int, width: int) -> Tensor:
    """Return the upper left part of images, which undoes `pad_to_multiple`."""
    if torch.compiler.is_exporting():  # slicing would ask whether the part is the whole, and keep the answer
        return functional.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))
    return images[..., :height, :width]


def pad_to_least(images: Tensor, smallest: int) -> Tensor:
    """Repeat the last row and column until images (B, C, H, W) have at least the given number of pixels a side."""
    height, width = images.shape[-2:]
    if height >= smallest and width >= smallest:
        return images
    return functional.pad(images, (0, max(smallest - width, 0), 0, max(smallest - height, 0)), mode="replicate")
