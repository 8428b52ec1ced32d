"""The PatchGAN discriminator: classifies each overlapping patch of an image independently.

Papers: Isola et al., CVPR 2017, appendix 6.1.2, https://arxiv.org/abs/1611.07004; Zhu et al., ICCV 2017, appendix 7.2,
https://arxiv.org/abs/1703.10593
Shapes: B batch, C channels, H and W height and width in pixels, F channels of the first layer.
"""

import torch
from torch import Tensor, nn

from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.networks.norms import Norm, PlainNorm, make_norm


def smallest_size(num_layers: int) -> int:
    """Return the height and width in pixels that an image must have for `PatchGAN` to classify one patch."""
    return 3 << num_layers


def check_patches(spec: ImageSpec, discriminator_layers: int) -> None:
    """Refuse images that are too small for the patches of a model's PatchGANs.

    Args:
        spec: what the images look like.
        discriminator_layers: the model's argument of this name, which is the `num_layers` of its PatchGANs.

    Raises:
        UserError: the images are smaller than one patch, or it is no number of layers.
    """
    check_numbers(most=MOST_LAYERS, discriminator_layers=discriminator_layers)
    smallest = smallest_size(discriminator_layers)
    if min(spec.height, spec.width) < smallest:
        raise UserError(
            f"The discriminator's patches need images of at least {smallest} pixels, but the data is {spec}.",
            "Choose larger images, or a smaller model.discriminator_layers.",
        )


class PatchGAN(nn.Module):
    """Maps images (B, C, H, W) to logits (B, 1, h, w), one per patch.

    Args:
        channels: C, of all images that are classified together.
        width: F; doubled at each layer, up to 8 x F.
        num_layers: layers that halve the feature maps: 1 for patches of 16x16 pixels, 2 for 34x34, 3 for 70x70 as in
            the papers, 4 for 142x142.
        norm: of all hidden layers but the first; "plain_instance" is instance norm without scale and shift.
    """

    def __init__(self, channels: int, width: int, num_layers: int, norm: Norm | PlainNorm) -> None:
        super().__init__()
        bias = norm in ("none", "plain_instance")
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        before = width
        for number in range(1, num_layers + 1):
            after = width * min(2**number, 8)
            stride = 2 if number < num_layers else 1
            layers += [nn.Conv2d(before, after, 4, stride, 1, bias=bias), make_norm(norm, after)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
            before = after
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, 1, 1))
        self.layers[0].to(memory_format=torch.channels_last)  # of few channels: faster, with the same results

    def forward(self, *images: Tensor) -> Tensor:
        """Return logits (B, 1, h, w), above 0 for patches that look real.

        Args:
            *images: (B, ., H, W) each, such as source and target; they are classified together.
        """
        logits: Tensor = self.layers(torch.cat(images, dim=1) if len(images) > 1 else images[0])
        return logits


class PatchGANs(nn.ModuleDict):
    """One discriminator per image domain."""

    def forward(self, images: Tensor, kind: str) -> Tensor:
        """Return the logits (B, 1, h, w) of images (B, C, H, W) from one domain's discriminator."""
        logits: Tensor = self[kind](images)
        return logits
