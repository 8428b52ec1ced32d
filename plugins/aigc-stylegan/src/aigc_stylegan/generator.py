"""The generator of StyleGAN2: a mapping network, and a synthesis network with skip connections to the image.

Paper: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020,
https://arxiv.org/abs/1912.04958 (sections 2.2 and 4)
Departures from the paper: none that affect results. Modulation scales the input of a convolution and demodulation its
output, which is equivalent to modulated weights but needs only one ordinary convolution for the whole batch.
Shapes: B batch, C channels, H and W height and width in pixels, Z latent size, S style size, L number of styles, N
number of noise inputs, I channels in, O channels out, K kernel size.
"""

from collections.abc import Sequence

import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor, nn

from aigc_stylegan.convolution import convolve, convolve_up
from aigc_stylegan.filtering import Blur, Upsample
from aigc_stylegan.layers import EqualizedLinear, MappingNetwork, activate_, conv_weight
from aigc_stylegan.precision import is_float16, normalised, precision_of

#: Key of the fixed noise inputs shared by all images generated from seeds.
_FIXED_NOISE = 20191203


def modulated_convolution(features: Tensor, weight: Tensor, styles: Tensor, *, up: bool = False) -> Tensor:
    """Convolve each image with weights whose input channels are scaled by its style (equation 1).

    Args:
        features: (B, I, H, W).
        weight: (O, I, K, K), K odd.
        styles: (B, I).
        up: double the size by a transposed convolution, without the filter that follows.

    Returns:
        (B, O, H, W), or (B, O, 2H + K - 2, 2W + K - 2) with `up`.
    """
    features = features * styles[:, :, None, None].to(features.dtype)
    return convolve_up(features, weight) if up else convolve(features, weight, padding=weight.shape[-1] // 2)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return the factors (B, O) that scale modulated weights to a length of 1 (equation 3); arguments as above."""
    with without_autocast(weight.device):
        lengths = styles.square() @ weight.square().sum(dim=(2, 3)).T
        return (lengths + 1e-8).rsqrt()


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and activation.

    Args:
        inputs: I.
        outputs: O.
        style_size: S.
        up: whether to double height and width.
    """

    def __init__(self, inputs: int, outputs: int, style_size: int, up: bool = False) -> None:
        super().__init__()
        self.style = EqualizedLinear(style_size, inputs, bias=1.0)
        self.weight = conv_weight(outputs, inputs, 3)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = (inputs * 9) ** -0.5
        self.filter = Blur(padding=1, gain=4.0) if up else None

    def forward(self, features: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
        """Return features (B, O, H, W), or twice that size.

        Args:
            features: (B, I, H, W).
            styles: (B, S).
            noise: (B, 1, H, W), of the output's size.
        """
        weight, scales = self.weight * self.scale, self.style(styles)
        if is_float16(weight.device):
            weight, scales = normalised(weight, scales)
        features = modulated_convolution(features, weight, scales, up=self.filter is not None)
        if self.filter is not None:
            features = self.filter(features)
        factors = demodulation(weight, scales)[:, :, None, None]
        return activate_(features, factors, noise * self.noise_strength, self.bias)


class ToImage(nn.Module):
    """Modulated 1x1 convolution without demodulation, which turns features into an image.

    Args:
        inputs: I.
        channels: C.
        style_size: S.
    """

    def __init__(self, inputs: int, channels: int, style_size: int) -> None:
        super().__init__()
        self.style = EqualizedLinear(style_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = inputs**-0.5

    def forward(self, features: Tensor, styles: Tensor) -> Tensor:
        """Return images (B, C, H, W) of features (B, I, H, W) and styles (B, S)."""
        count, _, height, width = features.shape
        # A matrix for each image: the features are read once, and no scaled copy of them is kept.
        weight = self.weight[None, :, :, 0, 0] * (self.style(styles) * self.scale)[:, None]
        pixels = features.permute(0, 2, 3, 1).reshape(count, height * width, -1)
        images: Tensor = (pixels @ weight.transpose(1, 2).to(pixels.dtype)).to(self.bias.dtype) + self.bias
        return images.view(count, height, width, -1).permute(0, 3, 1, 2)


class SynthesisNetwork(nn.Module):
    """Turns styles into images, starting from a learned constant, through levels that each double the size.

    Args:
        channels: C.
        base: height and width of the constant.
        widths: channels of the features of each level, from the smallest to the largest.
        style_size: S.
    """

    fixed_noise: Tensor

    def __init__(self, channels: int, base: tuple[int, int], widths: Sequence[int], style_size: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, widths[0], *base))
        self.first = StyledConv(widths[0], widths[0], style_size)
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(StyledConv(before, after, style_size, up=True) for before, after in steps)
        self.same = nn.ModuleList(StyledConv(after, after, style_size) for _, after in steps)
        self.to_image = nn.ModuleList(ToImage(width, channels, style_size) for width in widths)
        self.upsample = Upsample()
        sizes = [(base[0] << level, base[1] << level) for level in range(len(widths))]
        #: Height and width of the noise of each layer.
        self.noise_sizes = [sizes[0], *(size for size in sizes[1:] for _ in range(2))]
        self.num_noise = sum(height * width for height, width in self.noise_sizes)
        self.num_styles = 2 * len(widths)
        self.register_buffer("fixed_noise", keyed.normal((1, self.num_noise), _FIXED_NOISE), persistent=False)

    def forward(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W), about in [-1, 1] but not bounded.

        Args:
            styles: (B, L, S), one for each layer.
            noise: (B, N), standard normal; by default the same fixed noise for all images.
        """
        count = styles.shape[0]  # not its len, which would be the same number in all exported programs
        noise = self.fixed_noise.expand(count, -1) if noise is None else noise
        rows = torch.split(noise, [height * width for height, width in self.noise_sizes], dim=1)
        maps = [row.reshape(count, 1, *size) for row, size in zip(rows, self.noise_sizes, strict=True)]
        num_levels, device = len(self.to_image), styles.device
        with precision_of(0, num_levels, device):
            features = self.first(self.constant.expand(count, -1, -1, -1), styles[:, 0], maps[0])
            images: Tensor = self.to_image[0](features, styles[:, 1])
        for level, (up, same) in enumerate(zip(self.up, self.same, strict=True)):
            place = 2 * level + 1  # the image of a level shares its style with the first layer of the next one
            with precision_of(level + 1, num_levels, device):
                features = up(features, styles[:, place], maps[place])
                features = same(features, styles[:, place + 1], maps[place + 1])
                image = self.to_image[level + 1](features, styles[:, place + 2])
            with without_autocast(device):
                images = self.upsample(images) + image
        return images


class Generator(nn.Module):
    """Mapping and synthesis.

    Args:
        latent_size: Z.
        style_size: S.
        num_classes: number of classes; 0 for none.
        mapping_layers: number of layers of the mapping network.
        channels: C.
        base: height and width of the smallest level.
        widths: channels of the features of each level, from the smallest to the largest.
    """

    def __init__(
        self,
        latent_size: int,
        style_size: int,
        num_classes: int,
        mapping_layers: int,
        channels: int,
        base: tuple[int, int],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.mapping = MappingNetwork(latent_size, style_size, num_classes, mapping_layers)
        self.synthesis = SynthesisNetwork(channels, base, widths, style_size)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) of latents (B, Z) and, with classes, labels, int64 (B,)."""
        return self.draw(self.mapping(latents, labels))

    def draw(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) of styles (B, S) that all layers share; `noise` as in the synthesis network."""
        images: Tensor = self.synthesis(styles[:, None].expand(-1, self.synthesis.num_styles, -1), noise)
        return images
