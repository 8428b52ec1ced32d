"""PixelCNN++: convolutions that see the pixels above and to the left, and a logistic mixture for each pixel.

`incremental_pixelcnn.py` computes the same, pixel by pixel.

Paper: Salimans et al., ICLR 2017, https://arxiv.org/abs/1701.05517
Departs from the paper: in nothing; sizes need not be multiples of 4, and need not be square.
Shapes: B batch, C image channels, H and W height and width in pixels, F features, D outputs for a pixel. Images lie in
[-1, 1].
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.pixels.classes import check_labels
from aigc_autoregressive.pixels.logistic_mixture import LogisticMixture
from aigc_autoregressive.pixels.weight_norm import WeightNormConv2d, WeightNormConvTranspose2d, Window

_ABOVE = Window(rows=2, left=1, right=1)
_LEFT = Window(rows=2, left=1)


class Streams(NamedTuple):
    """Features of what lies before each pixel, (B, F, H, W) each.

    Args:
        above: of the rows above.
        left: of the rows above and of the pixels to the left.
    """

    above: Tensor
    left: Tensor


class PixelCNN(nn.Module):
    """The log-probability of images, pixel by pixel from the top left.

    Args:
        channels: C.
        num_levels: values that a number of an image can have; 256 for 8-bit images.
        width: F.
        num_blocks: gated blocks of each stream at each size, on the way down and on the way up.
        num_sizes: of the features, each half of the one before.
        num_components: of the mixtures.
        dropout: probability inside the blocks.
        num_classes: labels that it takes; 0 without classes.
    """

    def __init__(
        self,
        channels: int,
        num_levels: int = 256,
        width: int = 160,
        num_blocks: int = 5,
        num_sizes: int = 3,
        num_components: int = 10,
        dropout: float = 0.5,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.num_classes = channels, num_classes
        self.mixture = LogisticMixture(channels, num_components, num_levels)
        self.start = Start(channels, width)
        self.shrink = nn.ModuleList(Resize(width, WeightNormConv2d) for _ in range(num_sizes - 1))
        self.grow = nn.ModuleList(Resize(width, WeightNormConvTranspose2d) for _ in range(num_sizes - 1))

        def blocks(count: int, skips: bool) -> nn.ModuleList:
            return nn.ModuleList(StreamBlock(width, skips, dropout, num_classes) for _ in range(count))

        self.down = nn.ModuleList(blocks(num_blocks, skips=False) for _ in range(num_sizes))
        self.up = nn.ModuleList(blocks(num_blocks + (level > 0), skips=True) for level in range(num_sizes))
        self.output = WeightNormConv2d(width, self.mixture.num_outputs)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the parameters of each pixel's mixture, (B, D, H, W), computed from the pixels before it.

        Args:
            images: (B, C, H, W).
            labels: int64 (B,), for a model with classes.
        """
        check_labels(labels, self.num_classes)
        streams = [self.start(images)]
        for level, blocks in enumerate(self.down):
            if level > 0:
                streams.append(self.shrink[level - 1](streams[-1]))
            for block in blocks.children():
                streams.append(block(streams[-1], None, labels))
        result = streams.pop()
        for level, blocks in enumerate(self.up):
            if level > 0:
                result = cropped(self.grow[level - 1](result), streams[-1])
            for block in blocks.children():
                result = block(result, streams.pop(), labels)
        output: Tensor = self.output(functional.elu(result.left))
        return output

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the log-probability of each pixel given those before it, in nats, (B, H, W)."""
        return self.log_prob_from(self(images, labels), images)

    def log_prob_from(self, output: Tensor, images: Tensor) -> Tensor:
        """Return the same, given what `forward` returns for the images."""
        return self.mixture.log_prob(images, output)


class Start(nn.Module):
    """The streams' first layers, which leave out the pixel itself."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.above = WeightNormConv2d(channels + 1, width, _ABOVE)
        self.row_above = WeightNormConv2d(channels + 1, width, Window(left=1, right=1))
        self.left = WeightNormConv2d(channels + 1, width, Window(rows=2))

    def forward(self, images: Tensor) -> Streams:
        """Return features of what lies before each pixel; a channel of ones tells where the image ends."""
        images = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)
        left = shifted_down(self.row_above(images)) + shifted_right(self.left(images))
        return Streams(shifted_down(self.above(images)), left)


class StreamBlock(nn.Module):
    """A gated block for each stream; the left one also sees the one above, and both may see a skip connection."""

    def __init__(self, width: int, skips: bool, dropout: float, num_classes: int) -> None:
        super().__init__()
        self.above = GatedBlock(width, _ABOVE, width if skips else 0, dropout, num_classes)
        self.left = GatedBlock(width, _LEFT, 2 * width if skips else width, dropout, num_classes)

    def forward(self, streams: Streams, skip: Streams | None, labels: Tensor | None) -> Streams:
        """Return the streams' next features."""
        above = self.above(streams.above, None if skip is None else skip.above, labels)
        extra = above if skip is None else torch.cat([above, skip.left], dim=1)
        return Streams(above, self.left(streams.left, extra, labels))


class GatedBlock(nn.Module):
    """Residual block of two convolutions, the second one with a gate.

    Args:
        width: F.
        window: what the convolutions see.
        extra_width: of other features that come in by a 1x1 convolution, such as skip connections.
        dropout: probability before the second convolution.
        num_classes: labels that `forward` takes.
    """

    def __init__(self, width: int, window: Window, extra_width: int, dropout: float, num_classes: int) -> None:
        super().__init__()
        self.first = WeightNormConv2d(2 * width, width, window)
        self.extra = WeightNormConv2d(2 * extra_width, width) if extra_width else None
        self.dropout = nn.Dropout(dropout)
        self.second = WeightNormConv2d(2 * width, 2 * width, window, start_scale=0.1)
        self.classes = nn.Embedding(num_classes, 2 * width) if num_classes else None

    def forward(self, features: Tensor, extra: Tensor | None, labels: Tensor | None) -> Tensor:
        """Return features plus what the block adds, (B, F, H, W)."""
        hidden = self.first(concat_elu(features))
        if self.extra is not None and extra is not None:
            hidden = hidden + self.extra(concat_elu(extra))
        hidden = self.second(self.dropout(concat_elu(hidden)))
        if self.classes is not None:
            hidden = hidden + self.classes(labels)[:, :, None, None]
        return features + functional.glu(hidden, dim=1)


class Resize(nn.Module):
    """A strided convolution for each stream, or a transposed one."""

    def __init__(self, width: int, layer: type[WeightNormConv2d]) -> None:
        super().__init__()
        self.above = layer(width, width, _ABOVE, stride=2)
        self.left = layer(width, width, _LEFT, stride=2)

    def forward(self, streams: Streams) -> Streams:
        """Return streams of half the size, rounded up, or of twice the size."""
        return Streams(self.above(streams.above), self.left(streams.left))


def concat_elu(features: Tensor) -> Tensor:
    """Return ELU of the features and of their negatives, twice as many channels."""
    return functional.elu(torch.cat([features, -features], dim=1))


def shifted_down(features: Tensor) -> Tensor:
    """Move everything down by a row."""
    return functional.pad(features, (0, 0, 1, 0))[:, :, :-1]


def shifted_right(features: Tensor) -> Tensor:
    """Move everything to the right by a column."""
    return functional.pad(features, (1, 0))[:, :, :, :-1]


def cropped(streams: Streams, like: Streams) -> Streams:
    """Drop the last row and column where the smaller size was rounded up."""
    height, width = like.above.shape[-2:]
    return Streams(*(stream[:, :, :height, :width] for stream in streams))
