"""PixelCNN++ for sampling: each feature is computed once, as soon as the pixels that it sees have been drawn.

The stream of what lies above is computed row by row, the other one pixel by pixel. Convolutions keep the features that
came in before. Features of half the size are new in every other row and column only and are reused in between.

Paper: Ramachandran et al., Fast Generation for Convolutional Autoregressive Models, 2017,
https://arxiv.org/abs/1704.06001
Departs from the paper: in nothing.
Shapes: B batch, F features, n neighbours in a row: all of them, or one pixel. Level l has features of 1 / 2^l the size.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.pixels.classes import check_labels
from aigc_autoregressive.pixels.pixelcnn import GatedBlock, PixelCNN, concat_elu
from aigc_autoregressive.pixels.weight_norm import WeightNormConv2d

Size = tuple[int, int]


class IncrementalPixelCNN:
    """Draws the pixels of a batch in their order.

    Args:
        model: in evaluation mode.
        batch: B.
        size: height and width of the images.
        labels: int64 (B,), for a model with classes.
    """

    def __init__(self, model: PixelCNN, batch: int, size: Size, labels: Tensor | None) -> None:
        check_labels(labels, model.num_classes)
        self.model = model
        sizes = [size]
        for _ in model.shrink:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.above = RowsAbove("above", model, batch, sizes, labels)
        self.left = PixelsBefore(self.above, "left", model, batch, sizes, labels)
        self.output = KeptConvolution(model.output, batch, size)

    @property
    def num_draws(self) -> int:
        """Random numbers with which a pixel is drawn."""
        return self.model.mixture.num_draws

    def draw(self, images: Tensor, row: int, column: int, uniform: Tensor, temperature: float) -> Tensor:
        """Draw the pixel at a place; see `sampling.Drawer`."""
        return self.model.mixture.draw(self.output_at(images, row, column), uniform, temperature)

    def output_at(self, images: Tensor, row: int, column: int) -> Tensor:
        """Return the parameters of a pixel's mixture, (B, D), equal to those of the model itself.

        Args:
            images: (B, C, H, W), drawn up to this pixel.
            row: of the pixel.
            column: of the pixel; all those before have been asked for.
        """
        seen = images[:, :, max(0, row - 2) : row + 1]  # all that the first layers see
        if column == 0:
            self.above.advance(self.model.start(seen).above[:, :, -1], row, 0)
        first = max(0, column - 1)
        start = self.model.start(seen[:, :, :, first : column + 2]).left[:, :, -1]
        features = self.left.advance(start[:, :, column - first, None], row, column)
        self.output.put(functional.elu(features), row, column)
        return self.output.at(row, column, 1).squeeze(-1)


class KeptConvolution:
    """A convolution that remembers its input.

    Args:
        layer: the convolution.
        batch: B.
        size: height and width of the input.
    """

    def __init__(self, layer: WeightNormConv2d, batch: int, size: Size) -> None:
        self.window, self.weight, self.bias = layer.window, layer.weight(), layer.bias
        rows, columns = self.window.size
        self.kept = self.weight.new_zeros(batch, self.weight.shape[1], size[0] + rows - 1, size[1] + columns - 1)

    def put(self, features: Tensor, row: int, column: int) -> None:
        """Keep features (B, F, n) that begin at a place."""
        first = column + self.window.left
        self.kept[:, :, row + self.window.rows - 1, first : first + features.shape[-1]] = features

    def at(self, row: int, column: int, count: int, stride: int = 1) -> Tensor:
        """Return the result for `count` pixels from a place on, or for every other one, (B, F, n)."""
        rows, columns = self.window.size
        seen = self.kept[:, :, row : row + rows, column : column + count + columns - 1]
        if count == 1:
            return functional.linear(seen.flatten(1), self.weight.flatten(1), self.bias).unsqueeze(-1)
        return functional.conv2d(seen, self.weight, self.bias, stride).squeeze(2)


class KeptBlock:
    """A `GatedBlock` whose convolutions remember their input."""

    def __init__(self, block: GatedBlock, batch: int, size: Size, labels: Tensor | None) -> None:
        self.first = KeptConvolution(block.first, batch, size)
        self.second = KeptConvolution(block.second, batch, size)
        self.extra = None if block.extra is None else KeptConvolution(block.extra, batch, size)
        self.offset = None if block.classes is None else block.classes(labels).unsqueeze(-1)

    def __call__(self, features: Tensor, extra: Tensor | None, row: int, column: int) -> Tensor:
        """Return what the block makes of features (B, F, n) that begin at a place."""
        hidden = self._convolved(self.first, features, row, column)
        if self.extra is not None and extra is not None:
            hidden = hidden + self._convolved(self.extra, extra, row, column)
        hidden = self._convolved(self.second, hidden, row, column)
        if self.offset is not None:
            hidden = hidden + self.offset
        return features + functional.glu(hidden, dim=1)

    def _convolved(self, layer: KeptConvolution, features: Tensor, row: int, column: int) -> Tensor:
        layer.put(concat_elu(features), row, column)
        return layer.at(row, column, features.shape[-1])


class Stream(ABC):
    """One of the two streams, computed piece by piece.

    Args:
        name: of the stream in the model's layers.
        model: in evaluation mode.
        batch: B.
        sizes: heights and widths of the levels.
        labels: int64 (B,), for a model with classes.
    """

    def __init__(self, name: str, model: PixelCNN, batch: int, sizes: list[Size], labels: Tensor | None) -> None:
        def kept(level: int, blocks: nn.Module) -> list[KeptBlock]:
            return [KeptBlock(getattr(block, name), batch, sizes[level], labels) for block in blocks.children()]

        self.sizes = sizes
        self.down = [kept(level, blocks) for level, blocks in enumerate(model.down)]
        self.up = [kept(level, blocks) for level, blocks in enumerate(reversed(model.up))]
        shrink: list[WeightNormConv2d] = [getattr(layer, name) for layer in model.shrink]
        self.shrink = [KeptConvolution(layer, batch, size) for layer, size in zip(shrink, sizes, strict=False)]
        self.grow: list[WeightNormConv2d] = [getattr(layer, name) for layer in reversed(model.grow)]
        self.grow_weights = [layer.weight() for layer in self.grow]
        width = model.output.direction.shape[1]
        #: By level: features after the last block, (B, F, W), as far as the present row has come.
        self.results = [model.output.bias.new_zeros(batch, width, size[1]) for size in sizes]
        #: By level and block: the features that were computed last, (B, F, n).
        self.down_features: list[list[Tensor]] = [[] for _ in sizes]
        self.up_features: list[list[Tensor]] = [[] for _ in sizes]

    def advance(self, features: Tensor, row: int, column: int) -> Tensor:
        """Compute the features that are new at a place, at all levels.

        Args:
            features: of the first layer, (B, F, n).
            row: of the images.
            column: of the first of the n pixels.

        Returns:
            Those of the last block of the largest level, (B, F, n).
        """
        num_levels = next((level for level in range(len(self.sizes)) if (row | column) % 2**level), len(self.sizes))
        starts = []
        for level in range(num_levels):
            if level > 0:
                count = features.shape[-1]
                features = self.shrink[level - 1].at(row >> (level - 1), column >> (level - 1), count, stride=2)
            starts.append(features)
            features = self._go_down(level, features, row >> level, column >> level)
        for level in reversed(range(num_levels)):
            skips = [starts[level], *self.down_features[level]]
            features = self._go_up(level, skips, row >> level, column >> level)
        return features

    def _go_down(self, level: int, features: Tensor, row: int, column: int) -> Tensor:
        self.down_features[level] = []
        for block in self.down[level]:
            features = block(features, self._extra_down(level, column), row, column)
            self.down_features[level].append(features)
        if level < len(self.shrink):
            self.shrink[level].put(features, row, column)
        return features

    def _go_up(self, level: int, skips: list[Tensor], row: int, column: int) -> Tensor:
        self.up_features[level] = []
        count = skips[0].shape[-1]
        smallest = level == len(self.sizes) - 1
        features = skips.pop() if smallest else self._grown(level, row, column)[:, :, :count]
        for block in self.up[level]:
            features = block(features, self._extra_up(level, column, skips.pop()), row, column)
            self.up_features[level].append(features)
        self.results[level][:, :, column : column + count] = features
        return features

    @abstractmethod
    def _extra_down(self, level: int, column: int) -> Tensor | None:
        """Return what the next block sees besides its own stream, (B, F, n), on the way down."""

    @abstractmethod
    def _extra_up(self, level: int, column: int, skip: Tensor) -> Tensor:
        """Return the same on the way up."""

    @abstractmethod
    def _grown(self, level: int, row: int, column: int) -> Tensor:
        """Return the smaller level's features at a place of this level, (B, F, n) or more of them."""


class RowsAbove(Stream):
    """The stream of the rows above, computed a row at a time."""

    def _extra_down(self, level: int, column: int) -> Tensor | None:
        return None

    def _extra_up(self, level: int, column: int, skip: Tensor) -> Tensor:
        return skip

    def _grown(self, level: int, row: int, column: int) -> Tensor:
        source = self.results[level + 1].unsqueeze(2)
        layer, weight = self.grow[level], self.grow_weights[level]
        return layer.convolve(source, weight, layer.bias)[:, :, row % 2]


class PixelsBefore(Stream):
    """The stream of all pixels before, computed a pixel at a time; it also sees the other stream.

    Args:
        above: the other stream, which has computed the row.
    """

    def __init__(
        self, above: RowsAbove, name: str, model: PixelCNN, batch: int, sizes: list[Size], labels: Tensor | None
    ) -> None:
        super().__init__(name, model, batch, sizes, labels)
        self.above = above

    def _extra_down(self, level: int, column: int) -> Tensor | None:
        number = len(self.down_features[level])
        return self.above.down_features[level][number][:, :, column : column + 1]

    def _extra_up(self, level: int, column: int, skip: Tensor) -> Tensor:
        number = len(self.up_features[level])
        return torch.cat([self.above.up_features[level][number][:, :, column : column + 1], skip], dim=1)

    def _grown(self, level: int, row: int, column: int) -> Tensor:
        source = self.results[level + 1][:, :, column // 2]
        weight = self.grow_weights[level][:, :, row % 2, column % 2]
        return functional.linear(source, weight.T, self.grow[level].bias).unsqueeze(-1)
