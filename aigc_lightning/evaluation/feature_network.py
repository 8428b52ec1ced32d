"""Fixed networks whose features a loss can compare: gradients reach the images, none reaches the network.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.core.component import load_component
from aigc_lightning.core.io.checksums import tensors_digest
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.assets import find_asset
from aigc_lightning.evaluation.pretrained import load_efficientnet_lite

#: VGG-16 trained on ImageNet: the layers relu1_2, relu2_2, relu3_3 and relu4_3 (Johnson et al., section 4), and the
#: mean and deviation of the pixels that it was trained on, in [0, 1].
_VGG = "vgg16"
_LITE = "efficientnet_lite0"
_VGG_LAYERS = (3, 8, 15, 22)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LUMA = (0.299, 0.587, 0.114)
#: Networks with published weights, by name.
PUBLISHED = (_VGG, _LITE)


@runtime_checkable
class FeatureMaps(Protocol):
    """A model that exposes its layers' features, as `cnn` does."""

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the features of each layer, (B, ...), with gradients, for images (B, C, H, W) in [-1, 1]."""
        ...


class FeatureNetwork:
    """Features of a frozen network, for losses.

    It is not an `nn.Module`, so a model can hold it as an attribute without it becoming part of the model: neither
    checkpoints nor `model.train()` nor optimizers include it.

    Args:
        name: "vgg16" (the layers relu1_2, relu2_2, relu3_3 and relu4_3), "efficientnet_lite0" (the last layer of each
            resolution, 1/2 to 1/32), or a run folder or checkpoint of a `cnn` (all its layers).
        resize: whether a `cnn` sees all images at the size that it was trained on, or at their own.

    Attributes:
        sha256: of the network's weights, hexadecimal.

    Raises:
        UserError: the weights are missing, or the model does not expose its layers' features.
    """

    def __init__(self, name: str, *, resize: bool = True) -> None:
        self.layers: Callable[[Tensor], list[Tensor]]
        if name == _VGG:
            self.network: nn.Module = _Vgg()
            self.layers, self.channels, self.size = self.network, 3, None
            self.sha256 = tensors_digest(self.network.state_dict())
        elif name == _LITE:
            network = load_efficientnet_lite()
            self.network, self.layers, self.channels, self.size = network, network.feature_maps, 3, None
            self.sha256 = tensors_digest(network.state_dict())
        else:
            component = load_component(name)
            model, self.sha256 = component.model, component.sha256
            if not isinstance(model, FeatureMaps):
                raise UserError(
                    f"The {type(model).__name__} in {name} does not expose its layers.",
                    f"Give a run of cnn, or {' or '.join(PUBLISHED)}.",
                )
            self.network, self.layers, self.channels = model, model.feature_maps, model.spec.channels
            self.size = (model.spec.height, model.spec.width) if resize else None
        self.network.eval().requires_grad_(False)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the features of each layer, (B, ...), with gradients to the images.

        Args:
            images: (B, C, H, W) in [-1, 1]; brought to the channels that the network knows and, for a `cnn`, to its
                size.
        """
        self.network.to(images.device)
        images = with_channels(images, self.channels).float()
        if self.size is not None and images.shape[-2:] != self.size:
            images = functional.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=True)
        return self.layers(images)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return images (B, channels, H, W) as grey, RGB or RGBA: greys repeated, colours as luma, alpha left out or 1."""
    found = images.shape[1]
    if found == channels:
        return images
    color = images[:, :3]
    if channels == 1 and color.shape[1] == 3:
        weights = torch.tensor(_LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
        color = (color * weights).sum(dim=1, keepdim=True)
    elif channels > 1 and color.shape[1] == 1:
        color = color.expand(-1, 3, -1, -1)
    return torch.cat([color, torch.ones_like(color[:, :1])], dim=1) if channels == 4 else color


class _Vgg(nn.Module):
    """Maps images (B, 3, H, W) in [-1, 1] to the four layers."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import vgg16  # takes a second: only this network should pay for it

        weights = torch.load(find_asset(_VGG), map_location="cpu", weights_only=True)
        features = vgg16(weights=None).features
        prefix = "features."
        features.load_state_dict(
            {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        )
        self.features = cast(nn.Sequential, features)[: _VGG_LAYERS[-1] + 1]
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # what was there before is one of the layers
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(3, 1, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        values = ((images + 1) / 2 - self.mean) / self.deviation
        found = []
        for number, layer in enumerate(self.features):
            values = layer(values)
            if number in _VGG_LAYERS:
                found.append(values)
        return found
