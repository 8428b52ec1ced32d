"""Networks of the deep convolutional GAN, for images of various shapes.

Shapes: B batch, C channels, H and W height and width in pixels, Z latent size, K classes, N number of doublings,
h = H / 2^N and w = W / 2^N size of the smallest feature maps, F their channels.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from aigc_lightning.networks.image_convolutions import ImageConv2d, ImageConvTranspose2d
from aigc_lightning.networks.norms import Norm, make_norm
from aigc_lightning.networks.spectral_norm import spectral_norm

DiscriminatorNorm = Literal["batch", "group", "instance", "none", "spectral"]
Conditioning = Literal["none", "concatenation", "projection", "auxiliary"]


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
    """Return the channels at 1/2, 1/4, ... of the image size: doubled at each downsampling step, up to 8 x width."""
    return [width * min(2**level, 8) for level in range(number)]


class _Projection(nn.ConvTranspose2d):
    """A transposed convolution of 1x1 feature maps, the latents (B, Z), computed as a matrix product."""

    def forward(self, latents: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return feature maps (B, F, h, w) for latents (B, Z)."""
        weight = self.weight.permute(0, 2, 3, 1)  # in channels_last order, which avoids a copy
        features = (latents @ weight.flatten(1)).view(-1, *weight.shape[1:]).permute(0, 3, 1, 2)
        return features if self.bias is None else features + self.bias[:, None, None]


class DCGANGenerator(nn.Module):
    """Maps latents (B, Z), and labels if there are classes, to images (B, C, H, W) in [-1, 1].

    Args:
        latent_size: Z.
        shape: (C, H, W).
        width: channels of the last hidden layer.
        norm: of the hidden layers.
        num_classes: K, the number of classes; 0 for none. The one-hot label is concatenated with the latent (Mirza and
            Osindero, 2014, https://arxiv.org/abs/1411.1784).
    """

    def __init__(
        self, latent_size: int, shape: tuple[int, int, int], width: int, norm: Norm, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels, height, image_width = shape
        number = num_doublings(height, image_width)
        widths = _widths(width, number)[::-1]
        start = (height // 2**number, image_width // 2**number)
        inputs = latent_size + num_classes
        layers: list[nn.Module] = [_Projection(inputs, widths[0], start, bias=norm == "none")]
        for before, after in pairwise(widths):
            layers += [make_norm(norm, before), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=norm == "none")]
        layers += [make_norm(norm, widths[-1]), nn.ReLU(inplace=True)]
        layers += [ImageConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for latents (B, Z) and, with classes, labels (B,)."""
        if self.num_classes:
            assert labels is not None
            latents = torch.cat([latents, one_hot(labels, self.num_classes).to(latents)], dim=1)
        images: Tensor = self.layers(latents)
        return images


class DCGANDiscriminator(nn.Module):
    """Maps images (B, C, H, W), and labels if there are classes, to logits (B,) by strided convolutions.

    Args:
        shape: (C, H, W).
        width: channels of the first layer.
        norm: of all hidden layers but the first; "spectral" normalises the weights of every layer instead.
        num_classes: K; 0 for images without labels.
        conditioning: how D uses the label: "concatenation" gives it K additional channels, a one-hot map (Mirza and
            Osindero, 2014); "projection" adds the inner product of the last features and a class embedding (Miyato and
            Koyama, ICLR 2018, equation 3, https://arxiv.org/abs/1802.05637); "auxiliary" hides it from D, which
            predicts the class instead (Odena, Olah, Shlens, ICML 2017, https://arxiv.org/abs/1610.09585).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        norm: DiscriminatorNorm,
        num_classes: int = 0,
        conditioning: Conditioning = "none",
    ) -> None:
        super().__init__()
        self.num_classes, self.conditioning = num_classes, conditioning
        channels, height, image_width = shape
        number = num_doublings(height, image_width)
        widths = _widths(width, number)
        feature_norm: Norm = "none" if norm == "spectral" else norm
        inputs = channels + (num_classes if conditioning == "concatenation" else 0)
        layers: list[nn.Module] = [ImageConv2d(inputs, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=feature_norm == "none")]
            layers += [make_norm(feature_norm, after), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers)
        size = (height // 2**number, image_width // 2**number)
        self.head = nn.Conv2d(widths[-1], 1, size)
        self.classifier = nn.Conv2d(widths[-1], num_classes, size) if conditioning == "auxiliary" else None
        self.classes = nn.Linear(num_classes, widths[-1], bias=False) if conditioning == "projection" else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (B,): above 0 for images that look real, given their labels (B,) if there are classes.

        With the conditioning "auxiliary", return (B, 1 + K): this logit, then one per class.
        """
        label_codes = None
        if self.conditioning in ("concatenation", "projection"):
            assert labels is not None
            label_codes = one_hot(labels, self.num_classes).to(images)
        if self.conditioning == "concatenation":
            assert label_codes is not None
            planes = label_codes[:, :, None, None].expand(-1, -1, *images.shape[-2:])
            images = torch.cat([images, planes], dim=1)
        features: Tensor = self.layers(images)
        logits: Tensor = self.head(features).flatten()
        if self.classes is not None:
            logits = logits + (self.classes(label_codes) * features.sum(dim=(2, 3))).sum(dim=1)
        if self.classifier is not None:
            logits = torch.cat([logits[:, None], self.classifier(features).flatten(1)], dim=1)
        return logits


def spectrally_normalized(network: nn.Module) -> nn.Module:
    """Divide every convolution's weight by its largest singular value, in place (Miyato et al., ICLR 2018)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
    return network
