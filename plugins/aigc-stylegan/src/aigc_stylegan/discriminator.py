"""The discriminator of StyleGAN2: residual blocks, or plain ones as in earlier papers.

Papers: Karras et al., StyleGAN2, CVPR 2020, https://arxiv.org/abs/1912.04958 (section 4.1); Karras et al., Training
GANs with Limited Data, NeurIPS 2020, https://arxiv.org/abs/2006.06676 (classes, appendix C).
Shapes: B batch, C channels, H and W height and width in pixels, S style size.
"""

from collections.abc import Sequence

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor, nn

from aigc_stylegan.layers import (
    GROUP_SIZE,
    EqualizedConv2d,
    EqualizedLinear,
    MappingNetwork,
    activate,
    minibatch_deviation,
)
from aigc_stylegan.precision import precision_of


class Block(nn.Module):
    """Two convolutions, the second of which halves the size, with a 1x1 skip connection if residual.

    Args:
        inputs: channels in.
        outputs: channels out.
        residual: add a skip connection.
    """

    def __init__(self, inputs: int, outputs: int, residual: bool = True) -> None:
        super().__init__()
        gain = 0.5**0.5 if residual else 1.0  # the sum of two has twice the variance
        self.same = EqualizedConv2d(inputs, inputs, 3, activated=True)
        self.down = EqualizedConv2d(inputs, outputs, 3, down=True, activated=True, gain=gain)
        self.skip = EqualizedConv2d(inputs, outputs, 1, bias=False, down=True, gain=gain) if residual else None

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, outputs, H/2, W/2) of (B, inputs, H, W)."""
        if self.skip is None:
            plain: Tensor = self.down(self.same(features))
            return plain
        skipped: Tensor = self.skip(features)
        return skipped.add_(self.down(self.same(features)))


class Discriminator(nn.Module):
    """Rates how real images look, given their classes if there are any.

    Args:
        channels: C.
        base: height and width of the smallest level.
        widths: channels of the features of each level, from the smallest to the largest.
        style_size: S, with classes: the dimension in which features and class are compared.
        num_classes: number of classes; 0 for none.
        mapping_layers: number of layers of the network that embeds classes.
        residual: use residual blocks.
        group_size: images that are compared with each other (minibatch standard deviation).
    """

    def __init__(
        self,
        channels: int,
        base: tuple[int, int],
        widths: Sequence[int],
        style_size: int = 0,
        num_classes: int = 0,
        mapping_layers: int = 8,
        residual: bool = True,
        group_size: int = GROUP_SIZE,
    ) -> None:
        super().__init__()
        falling, self.group_size = list(widths[::-1]), group_size
        self.from_image = EqualizedConv2d(channels, falling[0], 1, activated=True)
        self.blocks = nn.Sequential(
            *(Block(before, after, residual) for before, after in zip(falling[:-1], falling[1:], strict=True))
        )
        last = falling[-1]
        self.last = EqualizedConv2d(last + 1, last, 3, activated=True)
        self.hidden = EqualizedLinear(last * base[0] * base[1], last)
        self.output = EqualizedLinear(last, style_size if num_classes else 1)
        self.mapping = MappingNetwork(0, style_size, num_classes, mapping_layers) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (B,): above 0 for images (B, C, H, W) that look real, given labels, int64 (B,)."""
        features = self.from_image(images)
        num_blocks, kind = len(self.blocks), self.from_image.weight.dtype
        for number, block in enumerate(self.blocks):
            with precision_of(num_blocks - number, num_blocks + 1, images.device):
                features = block(features if torch.is_autocast_enabled(images.device.type) else features.to(kind))
        with without_autocast(images.device):
            features = self.last(minibatch_deviation(features.to(kind), self.group_size))
            output: Tensor = self.output(activate(self.hidden(features.flatten(1))))
        if self.mapping is None:
            return output[:, 0]
        wanted: Tensor = self.mapping(None, labels)
        return (output * wanted).sum(dim=1) * float(wanted.shape[1] ** -0.5)
