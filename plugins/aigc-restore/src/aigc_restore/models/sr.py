"""Super-resolution: a network that enlarges images, trained on pixels and, if asked, against a discriminator.

Papers: Lim et al., EDSR, CVPRW 2017, https://arxiv.org/abs/1707.02921 (absolute error; self-ensemble); Ledig et al.,
SRGAN, CVPR 2017, https://arxiv.org/abs/1609.04802; Wang et al., ESRGAN, ECCVW 2018, https://arxiv.org/abs/1809.00219
(pixels first, then perceptual and relativistic adversarial losses; network interpolation); Wang et al., Real-ESRGAN,
ICCVW 2021, https://arxiv.org/abs/2107.10833 (U-Net discriminator)
Departures from the papers: the network learns the difference from bicubic enlargement unless `residual` is off;
PatchGAN in place of a discriminator with dense layers; one learning rate with cosine decay for all stages.
Shapes: B batch, C channels, H and W height and width of the small image in pixels, S scale. Images lie in [-1, 1].
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import RestorationBatch
from aigc_lightning.core.component import load_component, refer
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.export_graphs import ExportGraph, derived_graphs
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.resampling import enlarged
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from aigc_lightning.losses.feature_matching import perceptual
from aigc_lightning.losses.reconstruction import absolute, charbonnier
from aigc_lightning.losses.shifted import shifted
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.networks.patchgan import PatchGAN, check_patches
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Adam

from aigc_restore.ensemble import self_ensemble
from aigc_restore.losses import relativistic
from aigc_restore.networks.choice import Enlarger, NetworkName, make_network
from aigc_restore.networks.edsr import ResidualBlock
from aigc_restore.networks.rcan import AttentionBlock
from aigc_restore.networks.rrdb import DenseBlock
from aigc_restore.networks.swinir import SwinLayer
from aigc_restore.networks.unet_discriminator import UNetDiscriminator
from aigc_restore.networks.upsampling import FACTORS

_PIXEL_LOSSES = {"absolute": absolute, "charbonnier": charbonnier}


class SuperResolution(AdversarialModel):
    """Super-resolution by 2, 3, 4 or 8, of images of any size.

    Trained on `degraded_images` with `Downscale` or `SecondOrderDegradation`; the scale is that of the data. Held-out
    images give `val/loss`, `val/psnr_y` and, for comparison, `val/bicubic_psnr_y` (dB of the luma, without a border as
    wide as the scale).

    Args:
        spec: format of the large images; declared by the data.
        network: "edsr", "rrdb" (ESRGAN), "rcan" or "swinir".
        network_options: arguments of the network, such as {"width": 48, "num_blocks": 8}; those of the papers by
            default (of "edsr", the baseline).
        residual: let the network learn the difference from bicubic enlargement.
        pixel_loss: "absolute" or "charbonnier" error of the pixels.
        pixel_weight: weight of that error once the adversarial loss has begun; before, it is 1.
        feature_network: a run or checkpoint of `cnn`, "vgg16" or "efficientnet_lite0"; needed only in training, and
            only with a weight.
        perceptual_weight: weight of the squared difference in the features of that network, from `adversarial_start`.
        adversarial_weight: weight of the loss of a discriminator; 0 for none.
        adversarial_start: batches of training on pixels alone before the other losses begin.
        discriminator: "patch" (PatchGAN for patches of 34x34 pixels) or "unet".
        discriminator_width: channels of its first layer.
        start_from: a run or checkpoint of `sr` with the same network, whose weights training begins with.
        sharpness: where images are enlarged with weights between those of `start_from`, 0, and the trained ones, 1
            (network interpolation: ESRGAN, section 3.4). Training ignores it.
        lr: peak Adam learning rate of both networks.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data are not degraded images of one of these scales, or an argument is out of range.
    """

    aigc_api = 1
    channels = (1, 3)
    players: ClassVar[tuple[str, ...]] = ("generator",)
    averaged_networks = ("generator",)
    block_classes = (ResidualBlock, DenseBlock, AttentionBlock, SwinLayer)
    monitor = "val/loss"

    def __init__(
        self,
        spec: ImageSpec,
        network: NetworkName = "edsr",
        network_options: dict[str, Any] | None = None,
        residual: bool = True,
        pixel_loss: Literal["absolute", "charbonnier"] = "absolute",
        pixel_weight: float = 1.0,
        feature_network: str | None = None,
        perceptual_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        adversarial_start: int = 0,
        discriminator: Literal["patch", "unet"] = "patch",
        discriminator_width: int = 32,
        start_from: str | None = None,
        sharpness: float = 1.0,
        lr: float = 2e-4,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        _check_data(spec)
        check_numbers(discriminator_width=discriminator_width, lr=lr)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, pixel_weight=pixel_weight, perceptual_weight=perceptual_weight)
        check_numbers(zero=True, adversarial_weight=adversarial_weight, adversarial_start=adversarial_start)
        check_numbers(zero=True, warmup_steps=warmup_steps)
        if perceptual_weight and feature_network is None:
            raise UserError(
                "model.perceptual_weight needs a network that provides the features.",
                "Set model.feature_network to a run of cnn or to vgg16.",
            )
        if start_from is None and sharpness != 1:
            raise UserError("model.sharpness needs the weights of a first run.", "Set model.start_from to a run of sr.")
        if not 0 < sharpness <= 1:
            raise UserError(f"model.sharpness is {sharpness}.", "Give a number above 0 and up to 1.")
        self.scale = int(spec.scale)
        self.pixel_loss, self.pixel_weight = pixel_loss, pixel_weight
        self.feature_network, self.perceptual_weight = feature_network, perceptual_weight
        self.features: FeatureNetwork | None = None  # not registered as a sub-module, so not part of this model
        self.adversarial_weight, self.adversarial_start = adversarial_weight, adversarial_start
        self.start_from, self.sharpness = start_from, sharpness
        self.lr, self.warmup_steps, self.schedule_steps = lr, warmup_steps, schedule_steps
        enlarging = make_network(network, spec.channels, self.scale, network_options or {})
        self.generator: nn.Module = Enlarger(enlarging, self.scale, residual)
        self.generator.to(memory_format=torch.channels_last)  # faster, with the same results
        self.first_generator = None if start_from is None else copy.deepcopy(self.generator).requires_grad_(False)
        # Windows of tiles are then those of the whole image.
        self.size_multiple = int(getattr(enlarging, "side", 1))
        self.reach = float("inf") if enlarging.reach is None else float(enlarging.reach)  # type: ignore[arg-type]
        if adversarial_weight:
            self.discriminator = _discriminator(discriminator, spec, discriminator_width)
            self.players = ("generator", "discriminator")  # type: ignore[misc]  # an instance may have more

    # ---- inference

    def edit(self, images: Tensor, *, ensemble: bool = False, sharpness: float = 1.0) -> Tensor:
        """Return images (B, C, S H, S W) in [-1, 1], enlarged by the averaged network.

        Args:
            images: (B, C, H, W) in [-1, 1], of any size.
            ensemble: average the results for the image mirrored and turned in all eight ways (EDSR, section 3.5).
            sharpness: relative to the model's own: 0 takes the weights that training began with, and 2 of a model
                with a sharpness of 0.5 the trained ones.

        Raises:
            UserError: a sharpness out of range, or another than 1 of a model without `start_from`.
        """
        images = images.to(self.device, next(self.generator.parameters()).dtype)
        with self.inference():
            enlarge = self._enlarger(sharpness)
            output = self_ensemble(enlarge, images) if ensemble else enlarge(images)
        return output.float().clamp(-1, 1)

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return the graph of `edit`, with the weights of the model's own sharpness alone."""
        if self.sharpness == 1:
            return derived_graphs(self)
        model = copy.deepcopy(self)
        model.generator, model.averages = copy.deepcopy(self.averaged("generator")), nn.ModuleDict()
        model.generator.load_state_dict(self._between(self.sharpness), strict=False)
        model.sharpness = 1.0
        return derived_graphs(model)

    def _enlarger(self, sharpness: float) -> Callable[[Tensor], Tensor]:
        """Return the averaged network, or the same with weights between its own and those that training began with."""
        network, share = self.averaged("generator"), sharpness * self.sharpness
        if share == 1:
            return network
        if self.first_generator is None:
            what = "The model has weights of one sharpness: it was not trained from another run."
            raise UserError(what, "Leave out --sharpness, or give a run with model.start_from.")
        if not 0 <= share <= 1:
            hint = f"Give a number from 0 to {1 / self.sharpness:g}."
            raise UserError(f"A sharpness of {sharpness} is out of range.", hint)
        return partial(functional_call, network, self._between(share))

    def _between(self, share: float) -> dict[str, Tensor]:
        """Return weights of which a share is the averaged network's, and the rest those that training began with."""
        assert self.first_generator is not None
        first = dict(self.first_generator.named_parameters())
        weights = self.averaged("generator").named_parameters()
        return {name: torch.lerp(first[name].to(weight), weight, share) for name, weight in weights}

    # ---- training

    def setup(self, stage: str) -> None:
        """Load what only training needs: the network of the perceptual loss, and the weights to begin with."""
        if stage != "fit":
            return
        if self.perceptual_weight:
            self.features = FeatureNetwork(str(self.feature_network))
            refer(self, "feature_network", str(self.feature_network), self.features.sha256)

    def setup_from_data(self, data: Any) -> None:
        """Take the averaged weights of another run, if `start_from` names one."""
        if self.start_from is None or self.first_generator is None:
            return
        component = load_component(self.start_from)
        refer(self, "start_from", self.start_from, component.sha256)
        if not isinstance(component.model, SuperResolution):
            raise UserError(f"{self.start_from} is a run of {type(component.model).__name__}.", "Give a run of sr.")
        weights = component.model.averaged("generator").state_dict()
        try:
            self.generator.load_state_dict(weights)
            self.first_generator.load_state_dict(weights)
        except RuntimeError as error:
            what = f"The network of {self.start_from} differs from this one: {str(error).splitlines()[0]}"
            raise UserError(what, "Give both runs the same model.network, model.network_options and scale.") from error

    def adversarial_step(self, batch: RestorationBatch) -> None:
        """Update the network and, once the adversarial loss has begun, the discriminator."""
        small, target = batch["degraded"], batch["image"]
        self.update("generator", lambda: self.generator_loss(small, target))
        if self.adversarial_weight and self._is_second_stage:
            self.update("discriminator", lambda: self.discriminator_loss(small, target))

    def generator_loss(self, small: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the network on small images (B, C, H, W) and targets (B, C, S H, S W)."""
        output = self._enlarged(small)
        error = _PIXEL_LOSSES[self.pixel_loss](output, target).mean()
        self.record("pixel_error", error)
        if not self._is_second_stage:
            return error
        loss = self.pixel_weight * error
        output, target = self._shifted(output, target)
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(target)
            difference = perceptual(self.features(output), wanted)
            self.record("perceptual", difference)
            loss = loss + self.perceptual_weight * difference
        if self.adversarial_weight:
            adversarial = relativistic.generator(self.discriminator(target), self.discriminator(output))
            self.record("adversarial", adversarial)
            loss = loss + self.adversarial_weight * adversarial
        return loss

    def discriminator_loss(self, small: Tensor, target: Tensor) -> Tensor:
        """Return the loss of the discriminator on targets and on enlarged images."""
        with torch.no_grad():
            output = self._enlarged(small)
        output, target = self._shifted(output, target)
        real_logits = self.discriminator(target)
        self.observe_real(real_logits)
        return relativistic.discriminator(real_logits, self.discriminator(output))

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """Return Adam for each player, and its schedule, stepped per batch."""
        configs: list[OptimizerLRSchedulerConfig] = []
        for name in self.players:
            optimizer = Adam(getattr(self, name).parameters(), lr=self.lr, betas=(0.9, 0.99), fused=True)
            schedule = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
            configs.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return configs

    # ---- held-out images

    def validation_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        """Score enlarged held-out images against their targets, beside bicubic enlargement."""
        small, target = batch["degraded"], batch["image"].float()
        output = self.edit(small)
        self.log_held_out("loss", _PIXEL_LOSSES[self.pixel_loss](output, target))
        bicubic = enlarged(small.float(), self.scale).clamp(-1, 1)
        for name, images in {"psnr_y": output, "bicubic_psnr_y": bicubic}.items():
            scores = psnr((images + 1) / 2, (target + 1) / 2, channel="y", border=self.scale)
            self.log_held_out(name, scores)

    # ---- parts

    @property
    def _is_second_stage(self) -> bool:
        return self.step >= self.adversarial_start

    def _shifted(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        draws = self.uniform(len(target), 2)
        return shifted(output, draws), shifted(target, draws)

    def _enlarged(self, small: Tensor) -> Tensor:
        output: Tensor = self.generator(small.contiguous(memory_format=torch.channels_last))
        return output


def _check_data(spec: ImageSpec) -> None:
    if spec.task != "restoration" or spec.scale not in FACTORS:
        form = f"for {spec.task}" if spec.task != "restoration" else f"of scale {spec.scale:g}"
        raise UserError(
            f"Super-resolution needs small and large images of scale 2, 3, 4 or 8, but the data is {form} ({spec}).",
            "Use --data degraded_images with the corruption Downscale or SecondOrderDegradation.",
        )


def _discriminator(kind: str, spec: ImageSpec, width: int) -> nn.Module:
    if kind == "patch":
        check_patches(spec, 2)
        return PatchGAN(spec.channels, width, 2, "group")
    if spec.height % 8 or spec.width % 8:
        what = f"The U-Net discriminator needs sides that are multiples of 8, but the data is {spec}."
        raise UserError(what, "Choose such a size, or --model.discriminator patch.")
    return UNetDiscriminator(spec.channels, width)
