"""Resampling of images and features with a smooth filter.

Papers: Karras et al., StyleGAN, CVPR 2019, https://arxiv.org/abs/1812.04948 (section 2: filtered sampling); Karras et
al., StyleGAN2, CVPR 2020, https://arxiv.org/abs/1912.04958 (section 4: the filter [1, 3, 3, 1]).
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

_TAPS = (1.0, 3.0, 3.0, 1.0)


class _Filter(nn.Module):
    """Base class of modules with a filter (1, 1, 4, 4).

    Args:
        gain: sum of the filter's weights.
    """

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor(_TAPS) / sum(_TAPS)
        self.register_buffer("kernel", gain * torch.outer(taps, taps)[None, None], persistent=False)

    def weight(self, images: Tensor) -> Tensor:
        """Return the weight (C, 1, 4, 4) of a depthwise convolution, in the images' dtype."""
        return self.kernel.to(images).expand(images.shape[1], 1, 4, 4)


class Upsample(_Filter):
    """Doubles height and width: (B, C, H, W) to (B, C, 2H, 2W). Inserts zeros and filters."""

    def __init__(self) -> None:
        super().__init__(gain=4.0)  # three quarters of the pixels are zeros

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, 2H, 2W)."""
        return conv_transpose2d(images, self.weight(images), stride=2, padding=1, groups=images.shape[1])


class Downsample(_Filter):
    """Filters and keeps every second pixel: (B, C, H, W) to (B, C, H/2, W/2), for even H and W."""

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, H/2, W/2)."""
        if not images.is_cpu:
            return self._filtered(images)
        with without_autocast(images.device):  # the gradient in bf16 is 20 times slower on CPUs
            return self._filtered(images.float() if images.dtype == torch.bfloat16 else images).to(images.dtype)

    def _filtered(self, images: Tensor) -> Tensor:
        return conv2d(images, self.weight(images), stride=2, padding=1, groups=images.shape[1])


class Blur(_Filter):
    """Filters: (B, C, H, W) to (B, C, H + 2P - 3, W + 2P - 3).

    Args:
        padding: P, zeros around the images.
        gain: factor of the output.
    """

    def __init__(self, padding: int, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        """Return filtered images."""
        return conv2d(images, self.weight(images), padding=self.padding, groups=images.shape[1])
