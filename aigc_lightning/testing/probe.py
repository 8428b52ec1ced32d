"""A minimal model that trains on any data and scores it, to test data with."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from aigc_lightning.core.batch import ENCODED_KEYS, IMAGE_KEYS
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec


class Probe(ImageModel):
    """Learns to copy the first image of each sample with a 1x1 convolution; its score is the mean absolute error.

    Args:
        spec: what the images look like; any.
    """

    monitor = "val/error"
    encoded_keys = ENCODED_KEYS

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.convolution = nn.Conv2d(spec.channels, spec.channels, kernel_size=1)

    def edit(self, images: Tensor) -> Tensor:
        """Return the copies of images (B, C, H, W)."""
        with self.inference():
            copies: Tensor = self.convolution(images).clamp(-1, 1)
        return copies

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return this process's share of the mean absolute error."""
        return self._errors(batch).mean() * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Record the mean absolute error of each sample."""
        self.log_held_out("error", self._errors(batch))

    def configure_optimizers(self) -> Optimizer:
        """Return plain gradient descent."""
        return SGD(self.parameters(), lr=0.1)

    def _images(self, batch: Any) -> Tensor:
        images: Tensor = batch[IMAGE_KEYS[self.spec.task][0]]
        return images

    def _errors(self, batch: Any) -> Tensor:
        encoded = next((batch[key] for key in ENCODED_KEYS if key in batch), None)
        if encoded is not None:  # of any shape, of which a scale is learned
            latents: Tensor = encoded.flatten(1).float()
            return torch.sub(latents * self.convolution.weight.mean(), latents).abs().mean(1)
        images = self._images(batch)
        return torch.sub(self.convolution(images), images).abs().mean((1, 2, 3))
