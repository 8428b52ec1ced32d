"""Convolutional autoencoder, for image restoration and for learning a compressed code.

Papers: Ronneberger et al., U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597 (skip connections); Zhang et al.,
DnCNN, TIP 2017, https://arxiv.org/abs/1608.03981 (the network computes a correction of its input); Lim et al., EDSR,
CVPRW 2017, https://arxiv.org/abs/1707.02921 (residual blocks without normalisation).
Departures from the papers: skip connections add features instead of stacking them; blocks are "full pre-activation" and
start as the identity; Adam with cosine decay.
Shapes: B batch, C channels, H and W height and width in pixels, D channels of the code. Images lie in [-1, 1].
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam

from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.export_graphs import ExportGraph, derived_graphs
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses import reconstruction
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.networks.autoencoder import Autoencoder as AutoencoderNetwork
from aigc_lightning.networks.residual import PreactivationBlock, crop

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "absolute": reconstruction.absolute,
    "squared": reconstruction.squared,
    "charbonnier": reconstruction.charbonnier,
}
_MOST_HALVINGS = 10  # images of 1024 pixels become one
_KEYS = {"restoration": ("degraded", "image"), "paired": ("source", "target"), "generation": ("image", "image")}


class Autoencoder(ImageModel):
    """Restores degraded images of any size; given clean images, learns a compressed code.

    Degraded or paired images are mapped to the clean ones, with skip connections. Clean images are reconstructed from
    the code alone. Held-out images give `val/loss` and `val/psnr` (dB, mean over images).

    Args:
        spec: format of the images; declared by the data.
        width: channels at full size; doubled at each downsampling step.
        num_halvings: number of downsampling steps.
        num_blocks: residual blocks at each size, in encoder and decoder.
        code_channels: D of a network without skip connections, whose code has 1 / 4^num_halvings as many pixels as the
            image.
        skips: whether to use skip connections; None uses them for restoration and pairs.
        loss: "absolute", "squared" or "charbonnier" error of the pixels.
        lr: peak Adam learning rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data is unpaired, its sources and targets differ in size, or an argument is out of range.
    """

    block_classes = (PreactivationBlock,)
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
        if spec.scale != 1:
            raise UserError(
                f"The autoencoder preserves the image size, but the data's sources and targets differ in it ({spec}).",
                "Remove corruptions that change the size, such as Downscale.",
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
        self.network.to(memory_format=torch.channels_last)  # faster, with the same results
        self.size_multiple = self.network.multiple

    # ---- inference

    def edit(self, images: Tensor) -> Tensor:
        """Return restored images, or reconstructions, of images (B, C, H, W) of any size."""
        with self.inference():
            outputs: Tensor = self(images.to(self.device, self.network.last.weight.dtype)).clamp(-1, 1)
        return outputs

    def encode(self, images: Tensor) -> Tensor:
        """Return the code (B, D, h, w) of images (B, C, H, W), h and w being H and W / 2^num_halvings, rounded up.

        Raises:
            UserError: the network has skip connections, without which nothing can be made from the code.
        """
        self._check_code()
        return self._code(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] of codes (B, D, h, w); of the spec's size, if they fit it.

        Raises:
            UserError: the network has skip connections.
        """
        self._check_code()
        with self.inference():
            images: Tensor = self.network.decode(latents.to(self.device, self.network.last.weight.dtype)).clamp(-1, 1)
        multiple = self.size_multiple
        padded = [-(-side // multiple) * multiple for side in (self.spec.height, self.spec.width)]
        return crop(images, self.spec.height, self.spec.width) if [*images.shape[-2:]] == padded else images

    def embed(self, images: Tensor) -> Tensor:
        """Return the spatial mean of the code, (B, D), of images (B, C, H, W) of any size."""
        return self._code(images).mean(dim=(2, 3))

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return what `aigc export` writes: graphs that pad images of any size as `edit` does."""
        return derived_graphs(self, multiple=1)

    # ---- training

    def forward(self, images: Tensor) -> Tensor:
        """Return unclipped output images (B, C, H, W), with gradients."""
        outputs: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, the mean over its pixels."""
        inputs, targets = self._pair(batch)
        loss = LOSSES[self.loss](self(inputs), targets).mean()
        self.record("loss", loss)
        return loss * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score edited held-out images against their targets."""
        inputs, targets = self._pair(batch)
        outputs = self.edit(inputs).float()
        self.log_held_out("loss", LOSSES[self.loss](outputs, targets))
        self.log_held_out("psnr", psnr((outputs + 1) / 2, (targets + 1) / 2))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, stepped per batch."""
        optimizer = Adam(self.parameters(), lr=self.lr, fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _code(self, images: Tensor) -> Tensor:
        with self.inference():
            return self.network.encode(images.to(self.device, self.network.last.weight.dtype))

    def _check_code(self) -> None:
        if self.network.skips:
            raise UserError(
                "This autoencoder has skip connections: its code alone does not make an image.",
                "Train one with model.skips=false, on single images.",
            )

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the input and the target of a batch, (B, C, H, W) each."""
        source, target = (batch[key] for key in _KEYS[self.spec.task])
        if source.shape != target.shape:
            sizes = " and ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in (source, target))
            raise UserError(
                f"The autoencoder preserves the image size, but degraded and clean images are {sizes}.",
                "Remove corruptions that change the size, such as Downscale.",
            )
        return source, target
