"""The generator of CycleGAN: residual blocks between two halvings and two doublings.

Papers: Johnson, Alahi, Fei-Fei, ECCV 2016, https://arxiv.org/abs/1603.08155; Zhu et al., ICCV 2017, appendix 7.2,
https://arxiv.org/abs/1703.10593
Shapes: B batch, C channels, H and W height and width in pixels, F channels at full size.
"""

import torch
from torch import Tensor, nn

from aigc_lightning.networks.norms import Norm, PlainNorm, make_norm
from aigc_lightning.networks.residual import ReflectingConv2d, crop, pad_to_least

_SMALLEST = 8  # pixels: maps of a quarter of the size must be large enough for reflection padding


class ResNetGenerator(nn.Module):
    """Maps images (B, C, H, W) to images (B, C, H, W) in [-1, 1].

    Args:
        channels: C.
        width: F; doubled at each downsampling step.
        num_blocks: residual blocks at a quarter of the size.
        norm: of the hidden layers; "plain_instance" is the papers'.
    """

    def __init__(self, channels: int, width: int, num_blocks: int, norm: Norm | PlainNorm = "plain_instance") -> None:
        super().__init__()
        bias = norm in ("none", "plain_instance")

        def activation(features: int) -> list[nn.Module]:
            return [make_norm(norm, features), nn.ReLU(inplace=True)]

        layers = [ReflectingConv2d(channels, width, 7, bias), *activation(width)]
        for before in (width, 2 * width):
            layers += [nn.Conv2d(before, 2 * before, 3, 2, 1, bias=bias), *activation(2 * before)]
        layers += [_Block(4 * width, norm, bias) for _ in range(num_blocks)]
        for after in (2 * width, width):
            layers.append(nn.ConvTranspose2d(2 * after, after, 3, 2, 1, output_padding=1, bias=bias))
            layers += activation(after)
        layers += [ReflectingConv2d(width, channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        for convolution in (self.layers[0], self.layers[-2]):  # of few channels: faster, with the same results
            convolution.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for images (B, C, H, W), small ones padded by repetition."""
        height, width = images.shape[-2:]
        outputs: Tensor = self.layers(pad_to_least(images, _SMALLEST))
        return crop(outputs, height, width)  # odd sizes are rounded up where they are halved


class _Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, channels: int, norm: Norm | PlainNorm, bias: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ReflectingConv2d(channels, channels, 3, bias),
            make_norm(norm, channels),
            nn.ReLU(inplace=True),
            ReflectingConv2d(channels, channels, 3, bias),
            make_norm(norm, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        changes: Tensor = self.layers(features)
        return features + changes
