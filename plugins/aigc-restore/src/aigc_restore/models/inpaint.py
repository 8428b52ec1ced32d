"""Inpainting: a network that fills holes in images.

Papers: Liu et al., ECCV 2018, https://arxiv.org/abs/1804.07723 (partial convolutions; losses of hole and surroundings);
Yu et al., ICCV 2019, https://arxiv.org/abs/1806.03589 (gated convolutions); Suvorov et al., LaMa, WACV 2022,
https://arxiv.org/abs/2109.07161 (Fourier convolutions; adversarial loss with R1); Mescheder et al., ICML 2018,
https://arxiv.org/abs/1801.04406 (R1); Chen et al., HINet, CVPRW 2021, https://arxiv.org/abs/2105.06086 (PSNR as loss)
Departures from the papers: the network learns the difference from a filling without learning; no loss of total
variation; the networks are smaller, see their modules.
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

from typing import Any, ClassVar, Literal

import torch
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import RestorationBatch
from aigc_lightning.core.component import refer
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from aigc_lightning.losses import nonsaturating, penalties
from aigc_lightning.losses.feature_matching import perceptual
from aigc_lightning.networks.patchgan import PatchGAN, check_patches
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Adam

from aigc_restore.ensemble import self_ensemble
from aigc_restore.exporting import filling_graphs
from aigc_restore.inpainting.choice import Filler, FillingName, NetworkName, make_filler
from aigc_restore.inpainting.fourier import FourierBlock
from aigc_restore.inpainting.gated import GatedConvolution
from aigc_restore.inpainting.partial import PartialConvolution
from aigc_restore.losses.style import style

_FLOOR = 1e-4  # of the squared error of which the logarithm is taken: about one level of 8 bits


class Inpaint(AdversarialModel):
    """Inpainting: fills the holes of images of any size, and leaves all other pixels as they are.

    Trained on `masked_images`, or other data with masks. The same image and mask always give the same result. Held-out
    images give `val/loss` and `val/hole_psnr`, and for comparison `val/start_hole_psnr` of the filling that training
    starts from (dB, of the pixels in the hole alone).

    Args:
        spec: format of the images; declared by the data.
        network: "partial", "gated" or "fourier" convolutions.
        network_options: arguments of the network, such as {"width": 48}.
        filling: what the network learns the difference from: "smooth", or "spectral", which also continues what repeats
            or runs straight in the picture; it is better, and takes 0.2 seconds for 96x96 pixels on a CPU.
        hole_loss: "absolute" error, or "logarithm" of each image's mean squared error in its hole, which is the PSNR up
            to a factor: images that are easy to fill count as much as others.
        hole_weight: weight of that error.
        valid_weight: weight of the absolute error of what the network makes of everything else, which is not used.
        feature_network: a run or checkpoint of `cnn`, or "vgg16"; needed only in training, and only with a weight.
        perceptual_weight: weight of the squared difference in the features of that network.
        style_weight: weight of the difference of their Gram matrices.
        adversarial_weight: weight of the loss of a PatchGAN, which also sees the mask; 0 for none.
        r1_weight: weight of the penalty on the PatchGAN's gradient.
        discriminator_width: channels of its first layer.
        lr: peak Adam learning rate of both networks.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data has no masks, or sources and targets of different sizes, or an argument is out of range.
    """

    aigc_api = 1
    channels = (1, 3)
    needs = ("mask",)
    keeps_unmasked = True
    reach = float("inf")  # holes of any size
    players: ClassVar[tuple[str, ...]] = ("generator",)
    averaged_networks = ("generator",)
    block_classes = (PartialConvolution, GatedConvolution, FourierBlock)
    monitor = "val/loss"

    def __init__(
        self,
        spec: ImageSpec,
        network: NetworkName = "gated",
        network_options: dict[str, Any] | None = None,
        filling: FillingName = "smooth",
        hole_loss: Literal["absolute", "logarithm"] = "absolute",
        hole_weight: float = 6.0,
        valid_weight: float = 1.0,
        feature_network: str | None = None,
        perceptual_weight: float = 0.0,
        style_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        r1_weight: float = 0.001,
        discriminator_width: int = 32,
        lr: float = 1e-3,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task not in ("generation", "restoration") or spec.scale != 1:
            what = f"Inpainting needs single images with masks, but the data is for {spec.task} ({spec})."
            raise UserError(what, "Choose data such as masked_images.")
        check_numbers(discriminator_width=discriminator_width, lr=lr, hole_weight=hole_weight)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, valid_weight=valid_weight, perceptual_weight=perceptual_weight)
        check_numbers(zero=True, style_weight=style_weight, adversarial_weight=adversarial_weight, r1_weight=r1_weight)
        check_numbers(zero=True, warmup_steps=warmup_steps)
        if (perceptual_weight or style_weight) and feature_network is None:
            raise UserError(
                "model.perceptual_weight and model.style_weight need a network that provides the features.",
                "Set model.feature_network to a run of cnn or to vgg16.",
            )
        self.hole_loss, self.hole_weight, self.valid_weight = hole_loss, hole_weight, valid_weight
        self.feature_network, self.perceptual_weight, self.style_weight = (
            feature_network,
            perceptual_weight,
            style_weight,
        )
        self.features: FeatureNetwork | None = None  # not registered as a sub-module, so not part of this model
        self.adversarial_weight, self.r1_weight = adversarial_weight, r1_weight
        self.lr, self.warmup_steps, self.schedule_steps = lr, warmup_steps, schedule_steps
        self.filling = filling
        self.generator: Filler = make_filler(network, spec.channels, network_options or {}, filling)
        self.size_multiple = int(self.generator.network.multiple)  # type: ignore[arg-type]
        if spec.height % self.size_multiple or spec.width % self.size_multiple:
            what = (
                f"The network {network} needs sides that are multiples of {self.size_multiple}, but the data is {spec}."
            )
            raise UserError(what, "Choose such a size.")
        if adversarial_weight:
            check_patches(spec, 2)
            self.discriminator = PatchGAN(spec.channels + 1, discriminator_width, 2, "none")
            self.players = ("generator", "discriminator")  # type: ignore[misc]  # an instance may have more

    # ---- inference

    def edit(self, images: Tensor, masks: Tensor, *, ensemble: bool = False) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] with their holes filled by the averaged network.

        Args:
            images: (B, C, H, W) in [-1, 1], whose sides are multiples of `size_multiple`.
            masks: (B, 1, H, W), 1 in holes and 0 elsewhere.
            ensemble: average the results for the image mirrored and turned in all eight ways.
        """
        network = self.averaged("generator")
        dtype = next(network.parameters()).dtype
        images, masks = images.to(self.device), (masks.to(self.device) > 0.5)
        with self.inference():
            joined = torch.cat([images.to(dtype), masks.to(dtype)], dim=1)

            def filling(both: Tensor) -> Tensor:
                output: Tensor = network(both[:, :-1], both[:, -1:])
                return output

            filled = (self_ensemble(filling, joined) if ensemble else filling(joined)).float().clamp(-1, 1)
        return torch.where(masks, filled, images.float())

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return `fill`, the network, which the Python file beside it calls with the holes filled."""
        return filling_graphs(self)

    # ---- training

    def setup(self, stage: str) -> None:
        """Load the network of the perceptual and style losses before training starts."""
        if stage == "fit" and (self.perceptual_weight or self.style_weight):
            self.features = FeatureNetwork(str(self.feature_network))
            refer(self, "feature_network", str(self.feature_network), self.features.sha256)

    def adversarial_step(self, batch: RestorationBatch) -> None:
        """Update the network and, with an adversarial loss, the discriminator."""
        images, masks = batch["image"], batch["mask"]
        self.update("generator", lambda: self.generator_loss(images, masks))
        if self.adversarial_weight:
            self.update("discriminator", lambda: self.discriminator_loss(images, masks))

    def generator_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of the network on images (B, C, H, W) and masks (B, 1, H, W)."""
        output: Tensor = self.generator(images, masks)
        error = (output - images).abs()
        hole, valid = (error * masks).mean(), (error * (1 - masks)).mean()
        self.record("hole_error", hole)
        self.record("valid_error", valid)
        if self.hole_loss == "logarithm":
            hole = log_hole_error(output, images, masks)
        loss: Tensor = self.hole_weight * hole + self.valid_weight * valid
        filled = torch.where(masks > 0.5, output, images)
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(images)
            found = self.features(filled)
            loss = loss + self.perceptual_weight * perceptual(found, wanted)
            loss = loss + self.style_weight * style(found, wanted)
        if self.adversarial_weight:
            adversarial = nonsaturating.generator(self.discriminator(torch.cat([filled, masks], dim=1)))
            self.record("adversarial", adversarial)
            loss = loss + self.adversarial_weight * adversarial
        return loss

    def discriminator_loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of the discriminator on whole and on filled images, with the penalty R1."""
        with torch.no_grad():
            filled = torch.where(masks > 0.5, self.generator(images, masks), images)
        real_logits = self.discriminator(torch.cat([images, masks], dim=1))
        self.observe_real(real_logits)
        fake_logits = self.discriminator(torch.cat([filled, masks], dim=1))
        loss = nonsaturating.discriminator(real_logits, fake_logits)
        if self.r1_weight:
            penalty = penalties.r1(lambda points: self.discriminator(torch.cat([points, masks], dim=1)), images)
            self.record("r1", penalty)
            loss = loss + self.r1_weight / 2 * penalty
        return loss

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """Return Adam for each player, and its schedule, stepped per batch."""
        configs: list[OptimizerLRSchedulerConfig] = []
        for name in self.players:
            optimizer = Adam(getattr(self, name).parameters(), lr=self.lr, betas=(0.5, 0.99), fused=True)
            schedule = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
            configs.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return configs

    # ---- held-out images

    def validation_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        """Score what held-out holes are filled with, beside the filling that training starts from."""
        images, masks = batch["image"].float(), batch["mask"]
        filled = self.edit(images, masks)
        self.log_held_out("loss", (filled - images).abs().flatten(1).mean(dim=1))
        start = self.generator.filling(images, masks).clamp(-1, 1)
        for name, output in {"hole_psnr": filled, "start_hole_psnr": start}.items():
            self.log_held_out(name, hole_psnr(output, images, masks))


def log_hole_error(images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
    """Return the mean over images of the logarithm of the mean squared error in the hole, a scalar.

    Args:
        images: (B, C, H, W) in [-1, 1].
        targets: the same.
        masks: (B, 1, H, W), 1 in holes and 0 elsewhere.
    """
    squared = ((images - targets).square() * masks).flatten(1).sum(1)
    return (squared / (masks.flatten(1).sum(1).clamp_min(1) * images.shape[1]) + _FLOOR).log().mean()


def hole_psnr(images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of the pixels in the holes, in dB, (B,).

    Args:
        images: (B, C, H, W) in [-1, 1].
        targets: the same.
        masks: (B, 1, H, W), 1 in holes, of which each image has one, and 0 elsewhere.
    """
    squared = ((images.double() - targets.double()) / 2).square() * masks
    error = squared.flatten(1).sum(1) / (masks.flatten(1).sum(1) * images.shape[1])
    return -10 * error.clamp_min(1e-12).log10()
