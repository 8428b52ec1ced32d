"""Pix2pix: paired image-to-image translation.

Paper: Isola, Zhu, Zhou, Efros, Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
https://arxiv.org/abs/1611.07004
Departures from the paper: D is updated before G, on the same images; normalisation per image at any batch size, which
is what the paper's batch norm amounts to at its batch size of 1; inference without noise unless seeds are given, with
averaged weights; fewer levels of the U-Net for smaller images.
Shapes: B batch, C channels, H and W height and width in pixels, Z numbers of noise. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from typing import cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.optim import Adam

from aigc_lightning.core import keyed
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import PairedBatch
from aigc_lightning.core.component import refer
from aigc_lightning.core.engine.schedules import constant_linear
from aigc_lightning.core.image_model import initialize_normal
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from aigc_lightning.losses import nonsaturating
from aigc_lightning.losses.feature_matching import perceptual
from aigc_lightning.metrics.pairs import mae, psnr
from aigc_lightning.networks.norms import Norm
from aigc_lightning.networks.patchgan import PatchGAN, check_patches
from aigc_lightning.networks.unet import UNet, num_levels


class Pix2Pix(AdversarialModel):
    """Translates images, such as drawings to pictures, trained on pairs.

    Held-out pairs give `val/l1`, the mean absolute error of values in [0, 1], and `val/psnr` in dB.

    Args:
        spec: format of the images; declared by the data.
        width: channels of the first layer of the U-Net.
        norm: of both networks: "instance", "batch", "group" or "none".
        dropout: share of features that the noise drops in the first layers of the decoder, at least 0 and below 1.
        discriminator_width: channels of the first layer of the PatchGAN.
        discriminator_layers: 1 to judge patches of 16x16 pixels, 2 for 34x34, 3 for 70x70, 4 for 142x142.
        l1_weight: weight of the mean absolute difference from the target, relative to the adversarial loss.
        feature_network: a run or checkpoint of `cnn`, "vgg16" or "efficientnet_lite0"; needed only in training, and
            only with a weight.
        perceptual_weight: weight, in the loss of G, of the squared difference from the target in the features of that
            network (Johnson et al., ECCV 2016).
        lr: Adam learning rate of both networks.
        beta1: Adam's first decay rate.
        schedule_steps: batches until the learning rate is 0, usually `trainer.max_steps`: it is constant for the
            first half and then falls linearly; None keeps it.

    Raises:
        UserError: the data has no pairs; images are too small for the discriminator's patches; an argument is out of
            range.
    """

    players = ("discriminator", "generator")  # in the order of their optimizers
    monitor = "val/l1"
    size_multiple = 1  # any size

    def __init__(
        self,
        spec: ImageSpec,
        width: int = 64,
        norm: Norm = "instance",
        dropout: float = 0.5,
        discriminator_width: int = 64,
        discriminator_layers: int = 3,
        l1_weight: float = 100.0,
        feature_network: str | None = None,
        perceptual_weight: float = 0.0,
        lr: float = 2e-4,
        beta1: float = 0.5,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task != "paired":
            raise UserError(
                f"Pix2Pix needs pairs of images, but the data is for {spec.task} ({spec}).",
                "Choose paired data, such as `--data shapes --data.task paired` or `--data paired_images`.",
            )
        check_patches(spec, discriminator_layers)
        check_numbers(width=width, discriminator_width=discriminator_width, lr=lr)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, l1_weight=l1_weight, perceptual_weight=perceptual_weight)
        if perceptual_weight and feature_network is None:
            raise UserError(
                "model.perceptual_weight needs a network that provides the features.",
                "Set model.feature_network to a run of cnn, vgg16 or efficientnet_lite0.",
            )
        for name, value in {"dropout": dropout, "beta1": beta1}.items():
            if not 0 <= value < 1:
                raise UserError(f"model.{name} is {value}.", "Give a number of at least 0 and below 1.")
        self.norm, self.l1_weight = norm, l1_weight
        self.feature_network, self.perceptual_weight = feature_network, perceptual_weight
        self.features: FeatureNetwork | None = None  # not registered as a sub-module, so not part of this model
        self.lr, self.beta1, self.schedule_steps = lr, beta1, schedule_steps
        self.generator = UNet(spec.channels, width, num_levels(spec.height, spec.width), norm, dropout)
        self.discriminator = PatchGAN(2 * spec.channels, discriminator_width, discriminator_layers, norm)
        initialize_normal(self)

    # ---- inference

    def edit(self, images: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Return translations (B, C, H, W) in [-1, 1] of images (B, C, H, W), by the averaged generator.

        Args:
            images: in [-1, 1], of any size.
            seeds: one per image, for the paper's noise, which gives variants; the output is deterministic without them.
        """
        generator = cast(UNet, self.averaged("generator"))
        images = images.to(self.device, cast(torch.dtype, self.dtype))
        noise = None
        if seeds is not None:
            size = generator.noise_size(*images.shape[-2:])
            rows = [torch.rand(size, generator=keyed.generator(seed)) for seed in seeds]
            noise = torch.stack(rows).to(images)
        with self.inference():
            translated: Tensor = generator(images, noise).clamp(-1, 1)
        return translated

    # ---- training

    def setup(self, stage: str) -> None:
        """Load the network of the perceptual loss before training starts."""
        if stage == "fit" and self.perceptual_weight:
            self.features = FeatureNetwork(str(self.feature_network))
            refer(self, "feature_network", str(self.feature_network), self.features.sha256)

    def discriminator_loss(self, source: Tensor, target: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of D on pairs with targets and with fakes (B, C, H, W); no gradient reaches G."""
        fake = fake.detach()
        if self.norm == "batch" or self.augmentation is not None:
            real_logits, fake_logits = self.discriminator(source, target), self.discriminator(source, fake)
        else:  # D treats each pair independently, so real and fake pairs can share one pass
            both = self.discriminator(torch.cat([source, source]), torch.cat([target, fake]))
            real_logits, fake_logits = both.chunk(2)
        self.observe_real(real_logits)
        # Halved, so that D learns more slowly than G (section 3.3).
        return 0.5 * nonsaturating.discriminator(real_logits, fake_logits)

    def generator_loss(self, source: Tensor, target: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of G on its images (B, C, H, W), equation 4."""
        adversarial = nonsaturating.generator(self.discriminator(source, fake))
        l1 = l1_loss(fake, target)
        self.record("adversarial", adversarial)
        self.record("l1", l1)
        return adversarial + self.l1_weight * l1 + self.perceptual_loss(target, fake)

    def perceptual_loss(self, target: Tensor, fake: Tensor) -> Tensor:
        """Return the weighted difference between the features of fakes and of their targets (B, C, H, W), or 0."""
        if self.features is None:
            return fake.new_zeros(())
        with torch.no_grad():
            wanted = self.features(target)
        loss = perceptual(self.features(fake), wanted)
        self.record("perceptual", loss)
        return self.perceptual_weight * loss

    def adversarial_step(self, batch: PairedBatch) -> None:
        """Update D, then G, on one shared batch of translations."""
        source, target = batch["source"], batch["target"]
        noise = None
        if self.generator.dropout:
            noise = self.uniform(len(source), self.generator.noise_size(*source.shape[-2:]))
        fake = self.generator(source, noise)
        self.update("discriminator", lambda: self.discriminator_loss(source, target, fake))
        self.update("generator", lambda: self.generator_loss(source, target, fake))

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """Return Adam for each player, and its schedule, stepped per batch."""
        configs: list[OptimizerLRSchedulerConfig] = []
        for name in self.players:
            # Fused: with 54 million parameters and one image per batch, other implementations take a tenth of a step.
            optimizer = Adam(getattr(self, name).parameters(), lr=self.lr, betas=(self.beta1, 0.999), fused=True)
            schedule = constant_linear(optimizer, self.schedule_steps)
            configs.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return configs

    # ---- held-out images

    def validation_step(self, batch: PairedBatch, batch_idx: int) -> None:
        """Score translations of held-out images against their targets."""
        found, wanted = (0.5 * images + 0.5 for images in (self.edit(batch["source"]), batch["target"]))
        self.log_held_out("l1", mae(found, wanted))
        self.log_held_out("psnr", psnr(found, wanted))
