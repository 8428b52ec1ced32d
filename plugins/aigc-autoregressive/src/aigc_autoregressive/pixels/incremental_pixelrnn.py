"""PixelRNN for sampling: a pixel's states are computed from those of its neighbours, which are kept.

The LSTM from the left goes on with each pixel. The one from the right is run over a row when the row is complete, as
the row below is the first to see it.
Shapes: B batch, C image channels, F features of an LSTM, L levels, W width in pixels.
"""

from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.levels import to_images
from aigc_autoregressive.noise import to_gumbel
from aigc_autoregressive.pixels.classes import check_labels
from aigc_autoregressive.pixels.masked_convolution import MaskedConv2d
from aigc_autoregressive.pixels.pixelrnn import DiagonalBiLSTM, PixelRNN, lstm


class IncrementalPixelRNN:
    """Draws the pixels of a batch in their order.

    Args:
        model: in evaluation mode.
        batch: B.
        width: W.
        labels: int64 (B,), for a model with classes.
    """

    def __init__(self, model: PixelRNN, batch: int, width: int, labels: Tensor | None) -> None:
        check_labels(labels, model.num_classes)
        self.model = model
        self.offset = 0.0 if model.classes is None else model.classes(labels)
        self.layers = [KeptLayer(layer, batch, width) for layer in model.layers.children()]
        self.head = [Pointwise(layer) for layer in model.head if isinstance(layer, MaskedConv2d)]

    @property
    def num_draws(self) -> int:
        """Random numbers with which a pixel is drawn."""
        return self.model.channels * self.model.num_levels

    def draw(self, images: Tensor, row: int, column: int, uniform: Tensor, temperature: float) -> Tensor:
        """Draw the pixel at a place; see `sampling.Drawer`."""
        self.begin(images, row, column)
        images = images.clone()
        gumbel = to_gumbel(uniform).to(images).view(len(images), self.model.channels, self.model.num_levels)
        for channel in range(self.model.channels):
            logits = self.logits_at(images, row, column)[:, channel]
            level = (logits + temperature * gumbel[:, channel]).argmax(-1)
            images[:, channel, row, column] = to_images(level, self.model.num_levels).to(images)
        return images[:, :, row, column]

    def begin(self, images: Tensor, row: int, column: int) -> None:
        """Begin a pixel: compute the states of the one before, all of whose channels are known by now."""
        before = (row, column - 1) if column > 0 else (row - 1, images.shape[3] - 1)
        if before[0] < 0:
            return
        if self.model.channels > 1:  # a single channel is not seen by its own pixel's states
            self.logits_at(images, *before)
        if column == 0:
            for layer in self.layers:
                layer.finish_row()

    def logits_at(self, images: Tensor, row: int, column: int) -> Tensor:
        """Return logits of the levels of a pixel, (B, C, L), equal to those of the model itself.

        Args:
            images: (B, C, H, W), drawn up to this pixel; a channel's logits come from the channels before.
            row: of the pixel.
            column: of the pixel, which has begun.
        """
        top, left = max(0, row - 3), max(0, column - 3)  # all that the first layer sees
        seen = images[:, :, top : row + 1, left : column + 4]
        features: Tensor = self.model.start(seen)[:, :, -1, column - left] + self.offset
        for layer in self.layers:
            features = layer.at(features, column)
        for pointwise in self.head:
            features = pointwise(functional.relu(features))
        return features.view(len(images), self.model.channels, self.model.num_levels)


class Pointwise:
    """A masked 1x1 convolution for a single pixel."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, MaskedConv2d)
        self.weight, self.bias = (layer.weight * layer.mask)[:, :, 0, 0], layer.bias

    def __call__(self, features: Tensor) -> Tensor:
        """Return (B, out) of features (B, in)."""
        return functional.linear(features, self.weight, self.bias)


class KeptLayer:
    """A `DiagonalBiLSTM` with the states of a row and of the row above it, in lists of one tensor for each column.

    Args:
        layer: the layer.
        batch: B.
        width: W.
    """

    def __init__(self, layer: nn.Module, batch: int, width: int) -> None:
        assert isinstance(layer, DiagonalBiLSTM)
        self.from_left, self.from_right = (Direction(layer, number) for number in (0, 1))
        self.output = Pointwise(layer.output)
        self.nothing = layer.recurrence.weight.new_zeros(batch, layer.recurrence.weight.shape[1])
        empty = [self.nothing] * width
        self.inputs, self.hidden, self.cells = list(empty), list(empty), list(empty)
        self.left_above, self.right_above = list(empty), list(empty)

    def at(self, features: Tensor, column: int) -> Tensor:
        """Return what the layer makes of the features (B, 2F) of a pixel, those to the left having been here."""
        beside = (self.hidden[column - 1], self.cells[column - 1]) if column > 0 else (self.nothing, self.nothing)
        self.inputs[column] = features
        self.hidden[column], self.cells[column] = self.from_left(features, self.left_above[column], *beside)
        return features + self.output(self.hidden[column] + self.right_above[column])

    def finish_row(self) -> None:
        """Run the LSTM from the right over the row, and go on to the next one."""
        states, beside = list(self.right_above), (self.nothing, self.nothing)
        for column in reversed(range(len(states))):
            beside = self.from_right(self.inputs[column], self.right_above[column], *beside)
            states[column] = beside[0]
        self.right_above, self.left_above = states, list(self.hidden)


class Direction:
    """One of the two LSTMs of a layer."""

    def __init__(self, layer: DiagonalBiLSTM, number: int) -> None:
        self.inputs = Pointwise(layer.inputs[number])
        self.above, self.beside = layer.recurrence.weight.chunk(2)[number].unbind(2)

    def __call__(self, features: Tensor, above: Tensor, beside: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of a pixel, (B, F) each, of its features and of its neighbours' states."""
        gates = self.inputs(features) + above @ self.above.T + beside @ self.beside.T
        return lstm(gates, cell)
