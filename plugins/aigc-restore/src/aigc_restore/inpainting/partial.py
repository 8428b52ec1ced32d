"""A U-Net of partial convolutions, which see only what is known.

Paper: Liu et al., Image Inpainting for Irregular Holes Using Partial Convolutions, ECCV 2018,
https://arxiv.org/abs/1804.07723
Departures from the paper: beyond the border an image is unknown, not zero, so that with everything known the layer is a
convolution; one mask for all features of a pixel; group norm; fewer levels.
Shapes: B batch, C channels, F features, H and W height and width in pixels.
"""

from typing import cast

import torch
from aigc_lightning.networks.norms import make_norm
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu


class PartialConvolution(nn.Module):
    """Convolution of the known pixels alone, scaled up where some are missing (equation 1).

    Args:
        before: features of the input.
        after: features of the output.
        size: of the kernel; odd.
        stride: of the kernel.
    """

    def __init__(self, before: int, after: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, size, stride, size // 2)
        self.ones: Tensor
        self.register_buffer("ones", torch.ones(1, 1, size, size), persistent=False)

    def forward(self, features: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, F, h, w) and where it is known (equation 2).

        Args:
            features: (B, F, H, W); what is unknown does not matter.
            known: (B, 1, H, W) of 0 and 1.
        """
        stride, padding = self.convolution.stride, cast(tuple[int, int], self.convolution.padding)
        with torch.no_grad():
            count = conv2d(known.to(self.ones), self.ones, stride=stride, padding=padding)
            possible = conv2d(torch.ones_like(known[:1]).to(self.ones), self.ones, stride=stride, padding=padding)
            found = (count > 0).to(count)
            ratio = possible / count.clamp_min(1) * found
        weighted = conv2d(features * known, self.convolution.weight, None, stride, padding)
        bias = cast(Tensor, self.convolution.bias).view(1, -1, 1, 1)
        return weighted * ratio + bias * found, found


class PartialUNet(nn.Module):
    """Maps images (B, C, H, W) and masks (B, 1, H, W) to images; sides are multiples of `multiple`.

    Args:
        channels: C.
        width: F of the first level; doubled at each, up to 8 times.
        num_levels: halvings of the size.
    """

    def __init__(self, channels: int, width: int = 32, num_levels: int = 4) -> None:
        super().__init__()
        self.multiple = 2**num_levels
        widths = [channels, *(width * min(2**level, 8) for level in range(num_levels))]
        self.down = nn.ModuleList(
            PartialConvolution(a, b, 5 if level == 0 else 3, 2)
            for level, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        self.norms = nn.ModuleList(make_norm("group", after) for after in widths[1:])
        self.up = nn.ModuleList(
            PartialConvolution(widths[level] + widths[level - 1], widths[max(level - 1, 1)])
            for level in range(num_levels, 0, -1)
        )
        self.last = nn.Conv2d(widths[1], channels, 3, padding=1)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images (B, C, H, W), unclipped."""
        features, known = images, 1 - masks
        seen = [(features, known)]
        for layer, norm in zip(self.down, self.norms, strict=True):
            features, known = layer(features, known)
            features = leaky_relu(norm(features), 0.2) * known
            seen.append((features, known))
        for layer, (skipped, was_known) in zip(self.up, reversed(seen[:-1]), strict=True):
            larger, wider = (interpolate(part, scale_factor=2, mode="nearest") for part in (features, known))
            joined = torch.cat([larger * wider, skipped * was_known], dim=1)
            features, known = layer(joined, torch.maximum(wider, was_known))
            features = leaky_relu(features, 0.2)
        output: Tensor = self.last(features)
        return output
