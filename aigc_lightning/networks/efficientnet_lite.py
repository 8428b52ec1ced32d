"""EfficientNet-Lite0, for weights that were trained on ImageNet.

Papers: Tan, Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, table 1,
https://arxiv.org/abs/1905.11946; its blocks: Sandler et al., MobileNetV2, CVPR 2018, https://arxiv.org/abs/1801.04381.
Departures from the papers: those of the published Lite variant, which has no squeeze-and-excitation and ReLU6 for
swish; no stochastic depth, since the network is used and not trained.
Shapes: B batch, H and W height and width in pixels, F channels, K = 1000 classes.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Of each stage: blocks, kernel size, stride, expansion, output channels (table 1, stages 2 to 8).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
#: The stages after which feature maps are halved, and the last one.
_ENDS = (0, 1, 2, 4, 6)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class EfficientNetLite0(nn.Module):
    """Classifier of RGB images of any size, trained at 224x224; 4,652,008 parameters.

    Attributes:
        num_features: size of the pooled features.
        num_classes: K.
    """

    num_features, num_classes = _HEAD, _CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, _STEM, 3, 2), nn.ReLU6())
        widths = [_STEM, *(stage[-1] for stage in _STAGES)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    _Block(after if number else before, after, size, 1 if number else stride, expansion)
                    for number in range(count)
                )
            )
            for (before, after), (count, size, stride, expansion, _) in zip(pairwise(widths), _STAGES, strict=True)
        )
        self.head = nn.Sequential(*_convolution(widths[-1], _HEAD, 1), nn.ReLU6())
        self.classifier = nn.Linear(_HEAD, _CLASSES)

    def load_published(self, weights: dict[str, Tensor]) -> None:
        """Load the published port's weights, which have other names but the same order."""
        self.load_state_dict(dict(zip(self.state_dict(), weights.values(), strict=True)))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the last feature maps of each resolution.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            Five maps with 16, 24, 40, 112 and 320 channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size, rounded up;
            outputs of linear layers, so of either sign.
        """
        values, found = self.stem(images), []
        for number, stage in enumerate(self.stages):
            values = stage(values)
            if number in _ENDS:
                found.append(values)
        return found

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features (B, 1280) that enter the last layer, for images (B, 3, H, W) in [-1, 1]."""
        maps: Tensor = self.head(self.feature_maps(images)[-1])
        return maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) for images (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class _Block(nn.Module):
    """An inverted residual block: 1x1 expansion, depthwise convolution, linear 1x1 projection (MobileNetV2, table 1).

    Args:
        before: input channels.
        after: output channels.
        size: of the depthwise kernel.
        stride: of the depthwise convolution.
        expansion: how many times as many channels it has.
    """

    def __init__(self, before: int, after: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        layers = [] if expansion == 1 else [*_convolution(before, wide, 1), nn.ReLU6()]
        layers += [*_convolution(wide, wide, size, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, *_convolution(wide, after, 1))
        self.residual = stride == 1 and before == after

    def forward(self, features: Tensor) -> Tensor:
        """Return feature maps (B, after, H / stride, W / stride), rounded up."""
        changes: Tensor = self.layers(features)
        return features + changes if self.residual else changes


class _SameConv2d(nn.Conv2d):
    """A convolution padded as by TensorFlow's "same": an odd total adds the additional zero below and on the right."""

    def forward(self, features: Tensor) -> Tensor:
        height, width = (
            kernel - stride + _excess(side, stride)  # no kernel is smaller than its stride
            for side, stride, kernel in zip(features.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        border = [width // 2, width - width // 2, height // 2, height - height // 2]
        return super().forward(functional.pad(features, border) if any(border) else features)


def _excess(side: int, stride: int) -> int:
    """Return how many pixels a side lacks to be a multiple of a stride.

    An exported graph is for sides that are: formulas for all others grow from layer to layer, until torch takes minutes
    to read them again.
    """
    return 0 if torch.compiler.is_exporting() else -side % stride


def _convolution(before: int, after: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution and its norm, which has the epsilon of the published weights."""
    return [
        _SameConv2d(before, after, size, stride, groups=groups, bias=False),
        nn.BatchNorm2d(after, eps=1e-3),
    ]
