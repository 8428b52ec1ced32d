"""PixelRNN.

Paper: van den Oord et al., Pixel Recurrent Neural Networks, ICML 2016, https://arxiv.org/abs/1601.06759
Departures from the paper: Adam with cosine decay; the defaults are small enough for two processor cores.
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

from typing import Literal

from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

from aigc_autoregressive.models.pixel_model import PixelModel
from aigc_autoregressive.pixels.pixelrnn import DiagonalBiLSTM, PixelRNN


class PixelRNNModel(PixelModel):
    """PixelRNN with diagonal BiLSTMs: images drawn pixel by pixel, completion, and exact likelihoods.

    Held-out images give `val/bits_per_dim`.

    Args:
        spec: format of the images; declared by the data.
        conditions: what generation is controlled by: "none" or "labels" (the data's classes).
        num_levels: values that a number of an image can have: 256, or fewer for images that have only as many, equally
            spaced. Each has a probability of its own.
        width: features of each LSTM, at least one for each channel.
        num_layers: recurrent layers.
        head_width: features of the two layers before the probabilities.
        lr: peak Adam learning rate.
        beta2: Adam's second decay rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data is not single images or has no classes, or an argument is out of range.
    """

    aigc_api = 1
    block_classes = (DiagonalBiLSTM,)
    network: PixelRNN

    def __init__(
        self,
        spec: ImageSpec,
        conditions: Literal["none", "labels"] = "none",
        num_levels: int = 256,
        width: int = 32,
        num_layers: int = 2,
        head_width: int = 64,
        lr: float = 2e-3,
        beta2: float = 0.99,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec, conditions, num_levels, lr, beta2, warmup_steps, schedule_steps)
        check_numbers(most=MOST_LAYERS, num_layers=num_layers)
        for name, count in (("width", width), ("head_width", head_width)):
            if count < spec.channels:
                raise UserError(f"model.{name} is {count}.", f"Give at least {spec.channels}, one for each channel.")
        self.network = PixelRNN(spec.channels, num_levels, width, num_layers, head_width, self.num_classes)
