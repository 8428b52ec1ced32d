"""The image transformation network: a photograph in, the same picture in one style out.

Papers: Johnson, Alahi, Li, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016, and its
supplementary material (table 1), https://arxiv.org/abs/1603.08155; Ulyanov, Vedaldi, Lempitsky, Instance Normalization,
2016, https://arxiv.org/abs/1607.08022; Odena, Dumoulin, Olah, Deconvolution and Checkerboard Artifacts, Distill 2016.
Departures from the first paper: those of the others (instance norm for batch norm, nearest neighbours and a convolution
for transposed ones), and reflection padding in every convolution.
Shapes: B batch, C channels, H and W height and width in pixels, F channels at full size.
"""

import torch
from aigc_lightning.networks.norms import make_norm
from aigc_lightning.networks.residual import ReflectingConv2d, crop, pad_to_least, pad_to_multiple
from torch import Tensor, nn

#: Number that height and width of images are multiples of where they are not padded.
REDUCTION = 4  # by which the residual blocks' maps are smaller than the image
_SMALLEST = 8  # pixels: the padding of a convolution has to fit into its maps


class TransformNet(nn.Module):
    """Maps images (B, C, H, W) to images (B, C, H, W) in [-1, 1]; 1,679,235 parameters with the defaults.

    Args:
        channels: C.
        width: F; doubled at each halving.
        num_blocks: residual blocks at a quarter of the size.
    """

    def __init__(self, channels: int = 3, width: int = 32, num_blocks: int = 5) -> None:
        super().__init__()
        layers = [*_convolution(channels, width, 9)]
        for before in (width, 2 * width):
            layers += _convolution(before, 2 * before, 3, stride=2)
        layers += [ResidualBlock(4 * width) for _ in range(num_blocks)]
        for after in (2 * width, width):
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(2 * after, after, 3)]
        self.layers = nn.Sequential(*layers, ReflectingConv2d(width, channels, 9), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same size; the last row and column are repeated where a size is no multiple of 4."""
        if torch.compiler.is_exporting():  # for sizes that need no padding
            exported: Tensor = self.layers(images)
            return exported
        height, width = images.shape[-2:]
        padded = pad_to_multiple(pad_to_least(images, _SMALLEST), REDUCTION)
        return crop(self.layers(padded), height, width)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with instance norm, without an activation after the sum.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(channels, channels, 3),
            ReflectingConv2d(channels, channels, 3),
            make_norm("instance", channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return feature maps of the same shape."""
        changes: Tensor = self.layers(features)
        return features + changes


def _convolution(before: int, after: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [
        ReflectingConv2d(before, after, size, stride=stride),
        make_norm("instance", after),
        nn.ReLU(inplace=True),
    ]
