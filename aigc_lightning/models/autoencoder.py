"""Convolutional autoencoder, for the restoration of images and as a plain code of them.

Papers: Ronneberger et al., U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597 (skip connections); Zhang et al.,
DnCNN, TIP 2017, https://arxiv.org/abs/1608.03981 (the network computes a correction of its input); Lim et al., EDSR,
CVPRW 2017, https://arxiv.org/abs/1707.02921 (residual blocks without normalisation).
Departs from the papers: skip connections add features instead of stacking them; blocks are "full pre-activation" and
start as the identity; Adam with one half cosine.
Shapes: B batch, C channels, H and W height and width in pixels, D channels of the code. Images lie in [-1, 1].
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam

from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses import reconstruction
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.networks.autoencoder import Autoencoder as AutoencoderNetwork

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "absolute": reconstruction.absolute,
    "squared": reconstruction.squared,
    "charbonnier": reconstruction.charbonnier,
}
_MOST_HALVINGS = 10  # images of 1024 pixels become one
_KEYS = {"restoration": ("degraded", "image"), "paired": ("source", "target"), "generation": ("image", "image")}


class Autoencoder(ImageModel):
    """Restores degraded images of any size; from plain images, learns a code of them.

    Degraded or paired images are mapped to the clean ones, with skip connections. Plain images are mapped to
    themselves, through the code alone. Held-out images give `val/loss` and `val/psnr` (dB, mean over images).

    Args:
        spec: what the images look like; given by the data.
        width: channels at full size; doubled at each halving.
        num_halvings: how often feature maps are halved.
        num_blocks: residual blocks at each size, in encoder and decoder.
        code_channels: D of a network without skip connections, whose code has 1 / 4^num_halvings as many pixels as the
            image.
        skips: whether there are skip connections; None for those tasks that need them, restoration and pairs.
        loss: "absolute", "squared" or "charbonnier" error of the pixels.
        lr: largest Adam learning rate.
        warmup_steps: batches until the learning rate is reached.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: images without a target, or a number out of range.
    """

    monitor = "val/loss"

    def __init__(
        self,
        spec: ImageSpec,
        width: int = 32,
        num_halvings: int = 3,
        num_blocks: int = 1,
        code_channels: int = 32,
        skips: bool | None = None,
        loss: Literal["absolute", "squared", "charbonnier"] = "charbonnier",
        lr: float = 1e-3,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task not in _KEYS:
            raise UserError(
                f"The autoencoder learns from single images, degraded ones or pairs; the data are {spec.task}.",
                "Choose other data, such as photos or degraded_images.",
            )
        check_numbers(width=width, code_channels=code_channels, lr=lr)
        check_numbers(most=MOST_LAYERS, num_blocks=num_blocks)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, most=_MOST_HALVINGS, num_halvings=num_halvings)
        check_numbers(zero=True, warmup_steps=warmup_steps)
        self.loss, self.lr, self.warmup_steps, self.schedule_steps = loss, lr, warmup_steps, schedule_steps
        if skips is None:
            skips = spec.task != "generation"
        self.network = AutoencoderNetwork(spec.channels, width, num_halvings, num_blocks, code_channels, skips)
        self.network.to(memory_format=torch.channels_last)  # faster; the numbers are the same
        self.size_multiple = self.network.multiple

    # ---- what it is used for

    def edit(self, images: Tensor) -> Tensor:
        """Return restored images, or reconstructions, of images (B, C, H, W) of any size."""
        with self.inference():
            outputs: Tensor = self(images.to(self.device, self.network.last.weight.dtype)).clamp(-1, 1)
        return outputs

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the code over its pixels, (B, D), of images (B, C, H, W) of any size."""
        with self.inference():
            code = self.network.encode(images.to(self.device, self.network.last.weight.dtype))
        return code.mean(dim=(2, 3))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the edited inputs of a batch."""
        return self.edit(self._pair(batch)[0])

    # ---- training

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) that are not yet clipped, with gradients."""
        outputs: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the mean error of the pixels."""
        inputs, targets = self._pair(batch)
        loss = LOSSES[self.loss](self(inputs), targets).mean()
        self.record("loss", loss)
        return loss * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Compare edited held-out images with what they should be."""
        inputs, targets = self._pair(batch)
        outputs = self.edit(inputs).float()
        self.log_held_out("loss", LOSSES[self.loss](outputs, targets))
        self.log_held_out("psnr", psnr((outputs + 1) / 2, (targets + 1) / 2))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, which goes by batches."""
        optimizer = Adam(self.parameters(), lr=self.lr, fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the input and the target of a batch, (B, C, H, W) each."""
        source, target = (batch[key] for key in _KEYS[self.spec.task])
        if source.shape != target.shape:
            sizes = " and ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in (source, target))
            raise UserError(
                f"The autoencoder keeps the size of images, and degraded and clean ones are {sizes}.",
                "Leave out what changes the size, such as Downscale.",
            )
        return source, target
