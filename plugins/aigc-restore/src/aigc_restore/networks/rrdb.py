"""RRDB: residual-in-residual dense blocks, the generator of ESRGAN.

Paper: Wang et al., ESRGAN, ECCVW 2018, https://arxiv.org/abs/1809.00219
Departure from the paper: pixels lie in [-1, 1].
Shapes: B batch, C channels, F features, G features that a layer adds, H and W height and width in pixels, S scale.
"""

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from aigc_restore.networks.upsampling import FACTORS

_RESIDUAL_SCALE, _SLOPE = 0.2, 0.2
_INITIAL_SCALE = 0.1  # of the weights of dense blocks (section 3.1, "smaller initialization")


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input (B, F, H, W) and the output of all before it.

    Args:
        width: F.
        growth: G.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(width + number * growth, growth if number < 4 else width, 3, padding=1) for number in range(5)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data *= _INITIAL_SCALE
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        found = [features]
        for layer in self.layers[:-1]:
            found.append(leaky_relu(layer(torch.cat(found, dim=1)), _SLOPE))
        return torch.add(features, self.layers[-1](torch.cat(found, dim=1)), alpha=_RESIDUAL_SCALE)


class ResidualInResidual(nn.Module):
    """Three dense blocks with a common residual connection; the arguments of `DenseBlock`."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(width, growth) for _ in range(3)))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return torch.add(features, self.blocks(features), alpha=_RESIDUAL_SCALE)


class RRDB(nn.Module):
    """Maps images (B, C, H, W) to (B, C, S H, S W).

    Args:
        channels: C.
        scale: S: 2, 3, 4 or 8.
        width: F.
        num_blocks: residual-in-residual blocks; 23 in the paper.
        growth: G.

    Attributes:
        reach: number of input pixels in each direction on which an output pixel depends.
    """

    def __init__(self, channels: int, scale: int, width: int = 64, num_blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        blocks = [ResidualInResidual(width, growth) for _ in range(num_blocks)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(width, width, 3, padding=1))
        self.factors = FACTORS[scale]
        self.upsampling = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.factors)
        self.penultimate = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        reach, size = 1.0 + 15 * num_blocks + 1, 1
        for factor in self.factors:
            size *= factor
            reach += 1 / size
        self.reach = ceil(reach + 2 / scale)

    def forward(self, images: Tensor) -> Tensor:
        """Return enlarged images, unclipped."""
        features = self.head(images)
        features = features + self.body(features)
        for factor, layer in zip(self.factors, self.upsampling, strict=True):
            features = leaky_relu(layer(interpolate(features, scale_factor=factor, mode="nearest")), _SLOPE)
        output: Tensor = self.last(leaky_relu(self.penultimate(features), _SLOPE))
        return output
