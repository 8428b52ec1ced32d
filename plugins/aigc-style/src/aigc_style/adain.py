"""Style transfer by example: any style, in one pass.

Papers: Huang, Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017,
https://arxiv.org/abs/1703.06868; Sheng et al., Avatar-Net, CVPR 2018, https://arxiv.org/abs/1805.03857 (skips).
Departures from the first paper: EfficientNet-Lite0 or a `cnn` in place of VGG-19; since its maps have few channels,
finer ones are stylised as well and join the decoder; edits take the style's contrast and colours at each scale
(`bands.py`), which few training styles cannot teach a decoder; the style loss compares Gram matrices, relative to the
style's; the differences between neighbouring pixels are one of its layers (`features.py`).
Shapes: B batch, R styles of an image, C channels, H and W height and width in pixels, h and w those of styles. Images
lie in [-1, 1].
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from aigc_lightning.core.batch import UnpairedBatch
from aigc_lightning.core.component import embedded
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.export_graphs import ExportGraph, derived_graphs
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureMaps
from aigc_lightning.networks.residual import crop, pad_to_least, pad_to_multiple
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam

from aigc_style.bands import MULTIPLE, band_palettes, match_bands, mixed_palettes
from aigc_style.features import DEFAULT, differences, reduction
from aigc_style.networks.decoder import Decoder
from aigc_style.networks.encoder import LiteEncoder
from aigc_style.statistics import (
    Losses,
    adain,
    content_loss,
    gram,
    gram_loss,
    layer_weights,
    moments,
)

_SMALLEST, _MULTIPLE = 16, 8  # pixels that the encoder and the decoder's padding need
_PROBE = 64  # pixels of the image from which the encoder's channels are found
_COARSEST = 16  # pixels of the image per pixel of the coarsest map in the style loss


class AdaIN(ImageModel):
    """Gives photographs the style of any other picture, in one pass.

    It learns from unpaired data: photographs (A) and styles (B). Held-out images give `val/style` and `val/content`,
    the losses in the encoder's features, and `val/loss`, their weighted sum.

    Args:
        spec: format of the images; declared by the data.
        encoder: "efficientnet_lite0", or a run or checkpoint of `cnn`, which becomes part of the model.
        skips: stylise maps at 1/4 and 1/2 of the size as well, and give them to the decoder: more detail.
        width: channels of the decoder's last layer; the paper's has 64.
        content_weight: weight of the content loss relative to the style loss.
        lr: peak Adam learning rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data has no two domains, the encoder has no suitable maps, or an argument is out of range.
    """

    aigc_api = 1
    channels = (3,)
    monitor = "val/loss"
    size_multiple = 1  # any size
    reference_size = (512, 512)
    mixes_references = True
    reach = math.inf  # means and deviations: every pixel depends on all others

    def __init__(
        self,
        spec: ImageSpec,
        encoder: str = DEFAULT,
        skips: bool = True,
        width: int = 64,
        content_weight: float = 0.1,
        lr: float = 1e-3,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task != "unpaired":
            hint = "Choose data with both, such as photos_and_styles or unpaired_images."
            raise UserError(f"adain learns from photographs and styles; the data are {spec.task}.", hint)
        check_numbers(width=width, lr=lr, schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, content_weight=content_weight, warmup_steps=warmup_steps)
        self.content_weight, self.lr = content_weight, lr
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.encoder: LiteEncoder | ImageModel
        self.encoder = LiteEncoder() if encoder == DEFAULT else embedded(self, "encoder", encoder)
        if not isinstance(self.encoder, FeatureMaps):
            what = f"The {type(self.encoder).__name__} in {encoder} does not expose its layers."
            raise UserError(what, f"Give a run of cnn, or {DEFAULT}.")
        self.layers = _layers(self.encoder, encoder)
        channels = [found.shape[1] for found in self._maps(torch.zeros(1, 3, _PROBE, _PROBE))]
        self.skips = skips
        self.decoder = Decoder(channels[2], (channels[1], channels[0]) if skips else (0, 0), width)

    # ---- inference

    def edit(self, images: Tensor, references: Tensor, *, strength: float = 1.0, weights: str = "") -> Tensor:
        """Return images (B, C, H, W) of any size in the style of other pictures.

        Args:
            images: (B, C, H, W).
            references: a style per image (B, C, h, w), or several to mix (B, R, C, h, w).
            strength: 0 keeps the image's own statistics, 1 takes the style's.
            weights: of the R styles, such as "2,1"; equal by default.

        Raises:
            UserError: the strength is not between 0 and 1, or the weights do not fit the styles.
        """
        if not 0 <= strength <= 1:
            raise UserError(f"strength is {strength}.", "Give a number from 0 to 1.")
        dtype = next(self.decoder.parameters()).dtype
        several = references if references.ndim == 5 else references[:, None]
        shares = layer_weights(_numbers(weights, several.shape[1]), several.shape[1])
        with self.inference():
            content = self._maps(images.to(self.device, dtype))
            maps = [torch.zeros_like(own) for own in content]
            for share, style in zip(shares, several.unbind(dim=1), strict=True):
                styled = self._styled(content, self._maps(style.to(self.device, dtype)))
                maps = [one + share * other for one, other in zip(maps, styled, strict=True)]
            maps = [torch.lerp(own, other, strength) for own, other in zip(content, maps, strict=True)]
            found = [band_palettes(one.to(self.device)) for one in (images, *several.unbind(dim=1))]
            wanted = mixed_palettes(found, [1 - strength, *(strength * share for share in shares)])
            result = match_bands(self._decoded(maps, images).to(wanted.mean), wanted)
        return result.float().clamp(-1, 1)

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return the graph of `edit`, for sizes that need no padding."""
        return derived_graphs(self, multiple=MULTIPLE)

    # ---- training

    def setup(self, stage: str) -> None:
        """Load the encoder's published weights before training starts."""
        if stage == "fit" and isinstance(self.encoder, LiteEncoder):
            self.encoder.load()

    def losses(self, photos: Tensor, styles: Tensor) -> Losses:
        """Return the losses for photographs and styles (B, C, H, W), one value per pair."""
        with torch.no_grad():
            style = self._maps(styles)
            wanted = self._styled(self._maps(photos), style)
            grams = [gram(maps) for maps in (differences(styles), *style)]
        result = self._decoded(wanted, photos)
        found = self._maps(result)
        style_loss = gram_loss([gram(maps) for maps in (differences(result), *found)], grams)
        return Losses(style_loss, content_loss(found[2], wanted[2]))

    def training_step(self, batch: UnpairedBatch, batch_idx: int) -> Tensor:
        """Return the style loss plus the weighted content loss."""
        losses = self.losses(batch["image_a"], batch["image_b"])
        self.record("style", losses.style.mean())
        self.record("content", losses.content.mean())
        return losses.total(self.content_weight).mean() * self.share

    def validation_step(self, batch: UnpairedBatch, batch_idx: int) -> None:
        """Score held-out pairs."""
        losses = self.losses(batch["image_a"], batch["image_b"])
        self.log_held_out("style", losses.style)
        self.log_held_out("content", losses.content)
        self.log_held_out("loss", losses.total(self.content_weight))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the photographs of a batch in the styles of the batch."""
        return self.edit(batch["image_a"], batch["image_b"])

    def comparison(self, batch: Any) -> dict[str, Tensor]:
        """Return what grids show: photograph, style and result."""
        photos, styles = batch["image_a"], batch["image_b"]
        return {"photo": photos, "style": styles, "edited": self.edit(photos, styles)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, stepped per batch."""
        optimizer = Adam(self.decoder.parameters(), lr=self.lr, fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- parts

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Return maps at 1/2, 1/4 and 1/8 of the size, and coarser ones for the loss; sizes are rounded up to 8."""
        assert isinstance(self.encoder, FeatureMaps)
        if not torch.compiler.is_exporting():
            images = pad_to_multiple(pad_to_least(images, _SMALLEST), _MULTIPLE)
        maps = self.encoder.feature_maps(images)
        return [maps[number] for number in self.layers]

    def _styled(self, content: Sequence[Tensor], style: Sequence[Tensor]) -> list[Tensor]:
        return [adain(one, *moments(other)) for one, other in zip(content, style, strict=True)]

    def _decoded(self, maps: Sequence[Tensor], images: Tensor) -> Tensor:
        """Return the images of maps, as large as `images`."""
        result: Tensor = self.decoder(maps[2], (maps[1], maps[0]) if self.skips else ())
        if torch.compiler.is_exporting():
            return result
        return crop(result, images.shape[-2], images.shape[-1])


def _numbers(text: str, count: int) -> list[float] | None:
    """Return the weights of styles, None for equal ones.

    Raises:
        UserError: they are not as many numbers, one is negative, or all are 0.
    """
    if not text:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(one) and one >= 0 for one in numbers) or sum(numbers) == 0:
        example = ",".join(["1"] * count)
        raise UserError(f"weights is {text!r}.", f"Give {count} numbers of at least 0, not all 0, such as {example}.")
    return numbers


def _layers(encoder: FeatureMaps, name: str) -> list[int]:
    """Return the numbers of the layers at 1/2, 1/4, 1/8 and, if there is one, 1/16 of the size: the last of each.

    Raises:
        UserError: one of the first three is missing.
    """
    probe = torch.zeros(1, 3, _PROBE, _PROBE)
    with torch.no_grad():
        maps = encoder.feature_maps(probe)
    found = {reduction(probe, layer): number for number, layer in enumerate(maps) if layer.ndim == 4}
    if not {2, 4, 8} <= set(found):
        raise UserError(f"{name} has no layers at 1/2, 1/4 and 1/8 of the image's size.", f"Use {DEFAULT}.")
    return [number for size, number in sorted(found.items()) if 1 < size <= _COARSEST]
