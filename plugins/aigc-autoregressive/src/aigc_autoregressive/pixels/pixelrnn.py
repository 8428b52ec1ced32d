"""PixelRNN with diagonal bidirectional LSTMs, and a probability for each level of a pixel.

`incremental_pixelrnn.py` computes the same, pixel by pixel.

Of the paper's two recurrent layers this is the one that sees all pixels before a pixel; the Row LSTM sees a triangle of
them, and the paper's likelihoods with it are worse.

Paper: van den Oord et al., Pixel Recurrent Neural Networks, ICML 2016, https://arxiv.org/abs/1601.06759
Departs from the paper: in nothing; images may have any number of channels and need not be square.
Shapes: B batch, C image channels, H and W height and width in pixels, F features of an LSTM, L levels. Images lie in
[-1, 1].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_autoregressive.levels import to_levels
from aigc_autoregressive.pixels.classes import check_labels
from aigc_autoregressive.pixels.masked_convolution import MaskedConv2d


class PixelRNN(nn.Module):
    """The log-probability of images, number by number from the top left.

    Args:
        channels: C.
        num_levels: L, values that a number of an image can have; 256 for 8-bit images.
        width: F, at least C; other layers have twice as many features.
        num_layers: recurrent layers.
        head_width: features of the two layers before the probabilities.
        num_classes: labels that it takes; 0 without classes.
    """

    def __init__(
        self,
        channels: int,
        num_levels: int = 256,
        width: int = 128,
        num_layers: int = 7,
        head_width: int = 1024,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.num_levels, self.num_classes = channels, num_levels, num_classes
        self.start = MaskedConv2d(channels, 2 * width, 7, channels, sees_own=False)
        self.classes = nn.Embedding(num_classes, 2 * width) if num_classes else None
        self.layers = nn.ModuleList(DiagonalBiLSTM(width, channels) for _ in range(num_layers))
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(2 * width, head_width, 1, channels),
            nn.ReLU(),
            MaskedConv2d(head_width, head_width, 1, channels),
            nn.ReLU(),
            MaskedConv2d(head_width, channels * num_levels, 1, channels),
        )

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits of the levels of each number, (B, C, L, H, W), computed from the numbers before it.

        Args:
            images: (B, C, H, W).
            labels: int64 (B,), for a model with classes.
        """
        check_labels(labels, self.num_classes)
        features = self.start(images)
        if self.classes is not None:
            features = features + self.classes(labels)[:, :, None, None]
        for layer in self.layers:
            features = layer(features)
        logits: Tensor = self.head(features)
        return logits.reshape(images.shape[0], self.channels, self.num_levels, *images.shape[-2:])

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the log-probability of each pixel given those before it, in nats, (B, H, W)."""
        return self.log_prob_from(self(images, labels), images)

    def log_prob_from(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return the same, given what `forward` returns for the images."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        levels = to_levels(images, self.num_levels).unsqueeze(2)
        return functional.log_softmax(logits, dim=2).gather(2, levels).squeeze(2).sum(1)


class DiagonalBiLSTM(nn.Module):
    """Two LSTMs along the diagonals, one from either top corner, inside a residual connection.

    The states of a diagonal depend on those of the one before: on the pixel above and on the pixel to the left, or to
    the right in the other direction. Both directions run at once, as groups of one convolution.

    Args:
        width: F, features of each direction.
        channels: C of the images.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(MaskedConv2d(2 * width, 4 * width, 1, channels, repeats=4) for _ in range(2))
        self.recurrence = nn.Conv1d(2 * width, 8 * width, 2, groups=2, bias=False)
        self.output = MaskedConv2d(width, 2 * width, 1, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return features plus what the LSTMs add, (B, 2F, H, W)."""
        rightwards, leftwards = (layer(features) for layer in self.inputs)
        states = self._scan(skewed(torch.stack([rightwards, leftwards.flip(-1)], dim=2)))
        from_left, from_right = unskewed(states, features.shape[-1]).unbind(2)
        # From the right a state has seen the pixel itself and those after it; its row above has seen none of them.
        from_above = functional.pad(from_right.flip(-1), (0, 0, 1, 0))[:, :, :-1]
        added: Tensor = self.output(from_left + from_above)
        return features + added

    def _scan(self, inputs: Tensor) -> Tensor:
        """Run over the columns of skewed inputs (B, 4F, 2, H, N); return the states (B, F, 2, H, N)."""
        batch, gates, _, height, _ = inputs.shape
        hidden = cell = inputs.new_zeros(batch, gates // 4, 2, height)
        states = []
        for column in inputs.unbind(-1):
            above = functional.pad(hidden.transpose(1, 2).flatten(1, 2), (1, 0))
            recurrent = self.recurrence(above).view(batch, 2, gates, height).transpose(1, 2)
            hidden, cell = lstm(column + recurrent, cell)
            states.append(hidden)
        return torch.stack(states, dim=-1)


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hidden and the cell state, (B, F, ...), of the four gates, (B, 4F, ...), and of the cell before."""
    output, forget, enter, content = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
    return output.sigmoid() * cell.tanh(), cell


def skewed(features: Tensor) -> Tensor:
    """Move row i to the right by i, (..., H, W) to (..., H, H + W - 1), so that diagonals become columns."""
    height, width = features.shape[-2:]
    flat = functional.pad(features, (0, height)).flatten(-2)[..., :-height]
    return flat.reshape(*features.shape[:-1], height + width - 1)


def unskewed(features: Tensor, width: int) -> Tensor:
    """Undo `skewed`, to (..., H, `width`)."""
    height = features.shape[-2]
    flat = functional.pad(features.flatten(-2), (0, height))
    return flat.reshape(*features.shape[:-1], height + width)[..., :width]
