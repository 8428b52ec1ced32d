"""Which layers of a network show the style of an image, and which shows its content.

Shapes: B batch, C channels of images, F channels of feature maps, H and W height and width in pixels.
"""

import math
from typing import NamedTuple

import torch
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from torch import Tensor

#: The network that needs no training, no download and no argument.
DEFAULT = "efficientnet_lite0"
_COARSEST_STYLE, _COARSEST_CONTENT = 16, 8  # pixels of the image per pixel of a map
_PROBE = 128  # pixels


class Layers(NamedTuple):
    """Feature maps of a batch of images.

    Args:
        style: of several layers, from fine to coarse, (B, F, ...) each; the first one are differences of pixels.
        content: of one of them.
    """

    style: list[Tensor]
    content: Tensor


class StyleFeatures:
    """The layers of a frozen network, with gradients to the images.

    The style shows in all layers down to a sixteenth of the image's size, and before them in the differences between
    neighbouring pixels: networks that begin with a halving hardly see these, and would fill them with coloured noise.
    The content shows in the last layer down to an eighth. In VGG-16 this is relu4_3, near the layers that Gatys et al.
    and Huang and Belongie chose.

    Args:
        name: "efficientnet_lite0", "vgg16", or a run folder or checkpoint of a `cnn`.

    Attributes:
        name: of the network.
        sha256: of its weights, hexadecimal.

    Raises:
        UserError: the weights are missing, the model does not expose its layers' features, or they are coarse.
    """

    def __init__(self, name: str) -> None:
        self.network = FeatureNetwork(name, resize=False)  # a smaller image has another style
        self.name, self.sha256 = name, self.network.sha256
        probe = torch.zeros(1, 3, _PROBE, _PROBE)
        with torch.no_grad():
            maps = {number: found for number, found in enumerate(self.network(probe)) if found.ndim == 4}
        self.layers = [number for number, found in maps.items() if reduction(probe, found) <= _COARSEST_STYLE]
        contents = [number for number in self.layers if reduction(probe, maps[number]) <= _COARSEST_CONTENT]
        if not contents:
            raise UserError(f"All layers of {name} are too coarse for styles.", f"Use {DEFAULT}.")
        self.content = contents[-1]

    def __call__(self, images: Tensor) -> Layers:
        """Return the layers of images (B, C, H, W) in [-1, 1]."""
        maps = self.network(images)
        return Layers([differences(images), *(maps[number] for number in self.layers)], maps[self.content])


def differences(images: Tensor) -> Tensor:
    """Return the differences of pixels (B, C, H, W) from their right and lower neighbours, (B, 2 C, H - 1, W - 1)."""
    corner = images[..., :-1, :-1]
    return torch.cat([images[..., :-1, 1:] - corner, images[..., 1:, :-1] - corner], dim=1)


def reduction(images: Tensor, maps: Tensor) -> int:
    """Return by how much feature maps are smaller than their images, to the next power of two."""
    pixels = images.shape[-1] * images.shape[-2] / (maps.shape[-1] * maps.shape[-2])
    return int(2 ** round(math.log2(pixels) / 2))
