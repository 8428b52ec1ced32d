"""The U-Net of pix2pix: an encoder and a decoder with skip connections between layers of equal size.

Paper: Isola et al., CVPR 2017, appendix 6.1.1, https://arxiv.org/abs/1611.07004
Shapes: B batch, C channels, H and W height and width in pixels, L levels, F channels at the first level, Z noise
values.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.networks.image_convolutions import ImageConvTranspose2d
from aigc_lightning.networks.norms import Norm, make_norm
from aigc_lightning.networks.residual import crop, pad_to_least

#: Levels at 256x256 pixels, where the smallest feature maps are 1x1.
_MOST_LEVELS = 8
#: Number of decoder layers with noise, counted from the smallest feature maps.
_NOISY = 3
#: Pixels of a batch of feature maps up to which matrix products are faster than convolutions.
_FEW_PIXELS = 16


def num_levels(height: int, width: int) -> int:
    """Return L for an image size: as many halvings as leave at least one pixel, up to 8."""
    return min(_MOST_LEVELS, min(height, width).bit_length() - 1)


class _Doubling(ImageConvTranspose2d):
    """A transposed convolution that doubles the size of feature maps.

    For few pixels, CPUs use a matrix product: convolutions reorder their weights, here up to 34 MB.
    """

    def __init__(self, before: int, after: int, bias: bool) -> None:
        super().__init__(before, after, 4, 2, 1, bias=bias)

    def forward(self, features: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return feature maps (B, after, 2H or 2H + 1, 2W or 2W + 1) for feature maps (B, before, H, W)."""
        height, width = features.shape[-2:]
        size = (2 * height, 2 * width) if output_size is None else tuple(output_size)
        if torch.compiler.is_exporting():  # in a graph the output size has to be the same function of all input sizes
            doubled = functional.conv_transpose2d(features, self.weight, self.bias, 2, 1, output_padding=1)
            return crop(doubled, size[0], size[1])
        if not features.is_cpu or len(features) * height * width > _FEW_PIXELS:
            return super().forward(features, size)
        columns = self.weight.flatten(1).t() @ features.flatten(2)
        doubled = functional.fold(columns, size, 4, padding=1, stride=2)
        return doubled if self.bias is None else doubled + self.bias[:, None, None]


class UNet(nn.Module):
    """Maps images (B, C, H, W) to images (B, C, H, W) in [-1, 1].

    Sizes need not be powers of two: feature maps of odd size lose no row on the way down and get it back on the way up.

    Args:
        channels: C.
        width: F; doubled at each level, up to 8 x F.
        levels: L, number of halvings, at least 2.
        norm: of the hidden layers. The first and the smallest feature maps have none: normalisation per image would
            reduce 1x1 maps to zero.
        dropout: share of the features that the noise drops in the first three layers of the decoder.
    """

    def __init__(self, channels: int, width: int, levels: int, norm: Norm, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        self.widths = [width * min(2**level, 8) for level in range(levels)]
        bias = norm == "none"
        self.first = nn.Conv2d(channels, width, 4, 2, 1, bias=bias)
        self.encoder = nn.ModuleList()
        for fine, coarse in pairwise(self.widths):
            is_last = len(self.encoder) == levels - 2
            convolution = nn.Conv2d(fine, coarse, 4, 2, 1, bias=bias)
            feature_norm = nn.Identity() if is_last else make_norm(norm, coarse)
            self.encoder.append(nn.Sequential(nn.LeakyReLU(0.2), convolution, feature_norm))
        self.decoder = nn.ModuleList()
        self.norms = nn.ModuleList()
        for coarse, fine in pairwise(reversed(self.widths)):
            inputs = 2 * coarse if len(self.decoder) else coarse
            self.decoder.append(_Doubling(inputs, fine, bias))
            self.norms.append(make_norm(norm, fine))
        self.last = _Doubling(2 * width, channels, bias=True)

    def noise_size(self, height: int, width: int) -> int:
        """Return Z for an image size."""
        return sum(number * rows * columns for number, rows, columns in self._noise_shapes(height, width))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for images (B, C, H, W).

        Args:
            images: padded by repetition if smaller than 2^L pixels.
            noise: (B, Z) in [0, 1); features whose value is below the dropout rate are dropped and the others scaled
                up. None drops nothing.
        """
        height, width = images.shape[-2:]
        images = pad_to_least(images, 2 ** len(self.widths))
        masks = self._masks(noise, *images.shape[-2:])
        features: list[Tensor] = [self.first(images)]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        outputs = features.pop()
        for number, (layer, norm) in enumerate(zip(self.decoder, self.norms, strict=True)):
            skipped = features.pop()
            outputs = norm(layer(outputs.relu(), output_size=skipped.shape[-2:]))
            if number < len(masks):
                outputs = outputs * masks[number]
            outputs = torch.cat([skipped, outputs], dim=1)
        result: Tensor = self.last(outputs.relu(), output_size=images.shape[-2:]).tanh()
        return crop(result, height, width)

    def _noise_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Return channels, height and width of the feature maps to which noise is applied."""
        levels = len(self.widths)
        outputs = range(levels - 1, max(levels - 1 - _NOISY, 0), -1)  # levels at which layers of the decoder end
        return [(self.widths[level - 1], height >> level, width >> level) for level in outputs]

    def _masks(self, noise: Tensor | None, height: int, width: int) -> list[Tensor]:
        """Return the dropout factor of each feature, 0 or 1 / (1 - dropout)."""
        if noise is None:
            return []
        kept = (noise >= self.dropout) / (1 - self.dropout)
        shapes = self._noise_shapes(height, width)
        parts = torch.split(kept, [number * rows * columns for number, rows, columns in shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
