"""Fast style transfer: one network for one style.

Paper: Johnson, Alahi, Li, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016,
https://arxiv.org/abs/1603.08155
Departures from the paper: those of the network (`networks/transform.py`); any network for the features; losses relative
to the style's and the photographs' own features; the differences between neighbouring pixels are a layer of the style
(`features.py`), in place of total variation; edits take the style's contrast and colours at each scale (`bands.py`);
cosine decay of the learning rate.
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

import math
from typing import Any

import torch
from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.component import refer
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.export_graphs import ExportGraph, derived_graphs
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam

from aigc_style.bands import MULTIPLE, NUM_BANDS, SIDES, at_size, match_bands, palettes_by_size
from aigc_style.features import DEFAULT, StyleFeatures
from aigc_style.networks.transform import ResidualBlock, TransformNet
from aigc_style.pictures import read_style
from aigc_style.statistics import Losses, Palette, content_loss, gram, gram_loss, resized


class StyleFast(ImageModel):
    """Gives photographs one style, in one pass of a network that is trained for it.

    Held-out images give `val/style` and `val/content`, the losses in the features of the network that it is trained
    with, and `val/loss`, their weighted sum.

    Args:
        spec: format of the images; declared by the data.
        style: the picture whose style is learned: a file, or a picture of scikit-image: immunohistochemistry,
            hubble_deep_field, brick, grass or gravel. Needed only in training.
        style_size: the longer side, in pixels, at which the style is seen: smaller for finer strokes.
        feature_network: "efficientnet_lite0", "vgg16", or a run or checkpoint of `cnn`. Needed only in training.
        content_weight: weight of the content loss relative to the style loss.
        width: channels of the first layer; the paper's network has 32.
        num_blocks: residual blocks at a quarter of the size.
        lr: peak Adam learning rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data has no single images, or an argument is out of range.
    """

    aigc_api = 1
    channels = (3,)
    block_classes = (ResidualBlock,)
    monitor = "val/loss"
    size_multiple = 1  # any size
    reach = math.inf  # instance norm: every pixel depends on all others
    palette_mean: Tensor
    palette_covariance: Tensor

    def __init__(
        self,
        spec: ImageSpec,
        style: str = "immunohistochemistry",
        style_size: int = 256,
        feature_network: str = DEFAULT,
        content_weight: float = 0.3,
        width: int = 32,
        num_blocks: int = 5,
        lr: float = 1e-3,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task != "generation":
            raise UserError(f"style_fast learns from single images; the data are {spec.task}.", "Choose other data.")
        check_numbers(
            style_size=style_size, width=width, lr=lr, schedule_steps=1 if schedule_steps is None else schedule_steps
        )
        check_numbers(zero=True, content_weight=content_weight, warmup_steps=warmup_steps)
        check_numbers(most=MOST_LAYERS, num_blocks=num_blocks)
        self.style, self.style_size, self.feature_network = style, style_size, feature_network
        self.content_weight, self.lr = content_weight, lr
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.network = TransformNet(spec.channels, width, num_blocks)
        self.network.to(memory_format=torch.channels_last)
        channels, shape = spec.channels, (len(SIDES), NUM_BANDS + 1)  # of the style's bands, measured before training
        self.register_buffer("palette_mean", torch.zeros(*shape, channels, 1))
        self.register_buffer("palette_covariance", torch.eye(channels).expand(*shape, -1, -1).clone())
        self.features: StyleFeatures | None = None  # not registered as a sub-module, so not part of this model
        self.grams: list[Tensor] = []  # of the style, by layer

    # ---- inference

    def edit(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) of any size in the style that was learned."""
        with self.inference():
            styled: Tensor = self(images.to(self.device, next(self.network.parameters()).dtype))
            styled = styled.to(self.palette_mean).contiguous()  # else rounding depends on the size of the batch
            wanted = at_size(Palette(self.palette_mean, self.palette_covariance), styled)
            result = match_bands(styled, wanted)
        return result.float().clamp(-1, 1)

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return the graph of `edit`, for sizes that need no padding."""
        return derived_graphs(self, multiple=MULTIPLE)

    # ---- training

    def setup(self, stage: str) -> None:
        """Load the network of the losses, and the style, before training starts."""
        if stage != "fit":
            return
        self.features = StyleFeatures(self.feature_network)
        refer(self, "feature_network", self.feature_network, self.features.sha256)
        picture, digest = read_style(self.style)
        refer(self, "style", self.style, digest)
        for known, found in zip((self.palette_mean, self.palette_covariance), palettes_by_size(picture), strict=True):
            known.copy_(found)
        scale = self.style_size / max(picture.shape[-2:])
        picture = resized(picture, (round(scale * picture.shape[-2]), round(scale * picture.shape[-1])))
        with torch.no_grad():
            self.grams = [gram(maps) for maps in self.features(picture.to(self.device)).style]

    def forward(self, images: Tensor) -> Tensor:
        """Return styled images (B, C, H, W), with gradients."""
        styled: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return styled

    def losses(self, images: Tensor) -> Losses:
        """Return the losses of the network for photographs (B, C, H, W), one value per photograph."""
        assert self.features is not None
        with torch.no_grad():
            wanted = self.features(images).content
        found = self.features(self(images))
        grams = [one.to(images.device) for one in self.grams]
        style = gram_loss([gram(maps) for maps in found.style], grams)
        return Losses(style, content_loss(found.content, wanted))

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Return the style loss plus the weighted content loss."""
        losses = self.losses(batch["image"])
        self.record("style", losses.style.mean())
        self.record("content", losses.content.mean())
        return losses.total(self.content_weight).mean() * self.share

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Score held-out photographs."""
        losses = self.losses(batch["image"])
        self.log_held_out("style", losses.style)
        self.log_held_out("content", losses.content)
        self.log_held_out("loss", losses.total(self.content_weight))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the styled images of a batch."""
        return self.edit(batch["image"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, stepped per batch."""
        optimizer = Adam(self.network.parameters(), lr=self.lr, fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
