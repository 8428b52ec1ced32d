"""PixelCNN++.

Paper: Salimans et al., PixelCNN++, ICLR 2017, https://arxiv.org/abs/1701.05517
Departures from the paper: the number of levels is free; Adam with cosine decay; the defaults are small enough for two
processor cores.
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

from typing import Any, Literal

from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

from aigc_autoregressive.models.pixel_model import PixelModel
from aigc_autoregressive.pixels.pixelcnn import PixelCNN, StreamBlock
from aigc_autoregressive.pixels.weight_norm import start_from_data

_START_IMAGES = 256


class PixelCNNModel(PixelModel):
    """PixelCNN++: images drawn pixel by pixel, completion, and exact likelihoods, with or without classes.

    Held-out images give `val/bits_per_dim`.

    Args:
        spec: format of the images; declared by the data.
        conditions: what generation is controlled by: "none" or "labels" (the data's classes).
        num_levels: values that a number of an image can have: 256, or fewer for images that have only as many, equally
            spaced.
        width: features of each stream.
        num_blocks: gated blocks of each stream at each size, on the way down and on the way up.
        num_sizes: of the features, each half of the one before.
        num_components: logistic distributions of a pixel.
        dropout: probability inside the blocks.
        lr: peak Adam learning rate.
        beta2: Adam's second decay rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data is not single images or has no classes, or an argument is out of range.
    """

    aigc_api = 1
    block_classes = (StreamBlock,)
    network: PixelCNN

    def __init__(
        self,
        spec: ImageSpec,
        conditions: Literal["none", "labels"] = "none",
        num_levels: int = 256,
        width: int = 32,
        num_blocks: int = 2,
        num_sizes: int = 2,
        num_components: int = 10,
        dropout: float = 0.0,
        lr: float = 1e-3,
        beta2: float = 0.99,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec, conditions, num_levels, lr, beta2, warmup_steps, schedule_steps)
        check_numbers(width=width, num_components=num_components)
        check_numbers(most=MOST_LAYERS, num_blocks=num_blocks, num_sizes=num_sizes)
        if not 0 <= dropout < 1:
            raise UserError(f"model.dropout is {dropout}.", "Give a number of at least 0 and below 1.")
        self.network = PixelCNN(
            spec.channels, num_levels, width, num_blocks, num_sizes, num_components, dropout, self.num_classes
        )

    def setup_from_data(self, data: Any) -> None:
        """Start the weight-normalised layers from the statistics of training images."""
        batch = data.training_batch(_START_IMAGES)
        images, labels = batch["image"].to(next(self.network.parameters())), self._labels_of(batch)
        start_from_data(self.network, images, None if labels is None else labels.to(self.device))
