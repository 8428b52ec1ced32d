"""Networks of the deep convolutional GAN for images of many shapes.

Shapes: B batch, C channels, H and W height and width in pixels, Z latent size, N number of doublings,
h = H / 2^N and w = W / 2^N size of the smallest feature maps.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from aigc_lightning.networks.norms import Norm, make_norm

DiscriminatorNorm = Literal["batch", "group", "instance", "none", "spectral"]


def num_doublings(height: int, width: int) -> int:
    """Return N: as many halvings as leave whole feature maps of at least 4x4 pixels, but at least 2.

    Args:
        height: H, a multiple of 4, at least 8.
        width: W, likewise.
    """
    number = 2
    while all(size % 2 ** (number + 1) == 0 and size // 2 ** (number + 1) >= 4 for size in (height, width)):
        number += 1
    return number


def _widths(width: int, number: int) -> list[int]:
    """Return the channels at 1/2, 1/4, ... of the image size: doubled at each halving, up to 8 x width."""
    return [width * min(2**level, 8) for level in range(number)]


class DCGANGenerator(nn.Module):
    """Maps latents (B, Z) to images (B, C, H, W) in [-1, 1] by transposed convolutions.

    Args:
        latent_size: Z.
        shape: (C, H, W).
        width: channels of the last hidden layer.
        norm: of the hidden layers.
    """

    def __init__(self, latent_size: int, shape: tuple[int, int, int], width: int, norm: Norm) -> None:
        super().__init__()
        channels, height, image_width = shape
        number = num_doublings(height, image_width)
        widths = _widths(width, number)[::-1]
        start = (height // 2**number, image_width // 2**number)
        # A latent is a 1x1 feature map: this transposed convolution is the paper's projection.
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_size, widths[0], start, bias=norm == "none")]
        for before, after in pairwise(widths):
            layers += [make_norm(norm, before), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm == "none")]
        layers += [make_norm(norm, widths[-1]), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for latents (B, Z)."""
        images: Tensor = self.layers(latents[:, :, None, None])
        return images


class DCGANDiscriminator(nn.Module):
    """Maps images (B, C, H, W) to logits (B,) by strided convolutions.

    Args:
        shape: (C, H, W).
        width: channels of the first layer.
        norm: of all hidden layers but the first; "spectral" normalises the weights of every layer instead.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, norm: DiscriminatorNorm) -> None:
        super().__init__()
        channels, height, image_width = shape
        number = num_doublings(height, image_width)
        widths = _widths(width, number)
        feature_norm: Norm = "none" if norm == "spectral" else norm
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=feature_norm == "none")]
            layers += [make_norm(feature_norm, after), nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(widths[-1], 1, (height // 2**number, image_width // 2**number))]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B,): above 0 for images that look real."""
        logits: Tensor = self.layers(images)
        return logits.flatten()


def spectrally_normalized(network: nn.Module) -> nn.Module:
    """Divide every convolution's weight by its largest singular value, in place (Miyato et al., ICLR 2018)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
    return network
