"""Deep convolutional GAN.

Paper: Radford, Metz, Chintala, ICLR 2016, https://arxiv.org/abs/1511.06434
Departures from the paper: D returns logits and the losses take logits; both updates of a step share one batch of fakes;
a choice of losses, norms and gradient penalties; classes, with three kinds of conditioning; any image size that is a
multiple of 4.
Shapes: B batch, C channels, H and W height and width in pixels, Z latent size. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam, Optimizer

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.component import refer
from aigc_lightning.core.image_model import initialize_normal, seeded_normal
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from aigc_lightning.losses import hinge, least_squares, nonsaturating, wasserstein
from aigc_lightning.losses.feature_matching import feature_matching
from aigc_lightning.losses.penalties import gradient_penalty, r1
from aigc_lightning.networks.dcgan import (
    Conditioning,
    DCGANDiscriminator,
    DCGANGenerator,
    DiscriminatorNorm,
    spectrally_normalized,
)
from aigc_lightning.networks.norms import Norm

LOSSES: dict[str, ModuleType] = {
    "nonsaturating": nonsaturating,
    "hinge": hinge,
    "least_squares": least_squares,
    "wasserstein": wasserstein,
}


class DCGAN(AdversarialModel):
    """GAN, with or without classes, for images whose height and width are multiples of 4, at least 8.

    Args:
        spec: format of the images; declared by the data.
        latent_size: Z.
        width: channels of the layer next to the image, in both networks.
        loss: "nonsaturating", "hinge", "least_squares" or "wasserstein".
        generator_norm: "batch", "group", "instance" or "none".
        discriminator_norm: the same, or "spectral" for spectrally normalised weights.
        gradient_penalty_weight: weight of the penalty on the gradient of D between real and fake images; None means 10
            with the Wasserstein loss, which needs it, and 0 with the others.
        r1_weight: gamma of the R1 penalty, gamma / 2 times the squared gradient of D at real images; 0 for none.
        generator_lr: Adam learning rate of G.
        discriminator_lr: Adam learning rate of D.
        beta1: Adam's first decay rate.
        conditioning: how the class of an image is used: "none", "concatenation" (one-hot label beside D's input),
            "projection" (inner product with D's features) or "auxiliary" (D also learns to predict the class, AC-GAN);
            G gets a one-hot label beside the latent.
        discriminator_steps: updates of D per update of G; with n, G is updated on every n-th batch.
        class_weight: weight of the cross entropy of the classes with "auxiliary" conditioning, in both losses.
        feature_network: a run or checkpoint of `cnn`, "vgg16" or "efficientnet_lite0"; needed only in training, and
            only with a weight.
        feature_matching_weight: weight, in the loss of G, of the squared difference between the mean features of real
            and generated images in that network (Salimans et al., 2016).

    Raises:
        UserError: the size is not a multiple of 4 or is below 8; a gradient penalty is combined with a norm in D that
            mixes the images of a batch; an argument is out of range; feature matching has a weight but no network.
    """

    players = ("discriminator", "generator")  # in the order of their optimizers
    looks_at_real = ("gradient_penalty_weight", "r1_weight", "feature_matching_weight")

    def __init__(
        self,
        spec: ImageSpec,
        latent_size: int = 100,
        width: int = 64,
        loss: Literal["nonsaturating", "hinge", "least_squares", "wasserstein"] = "nonsaturating",
        generator_norm: Norm = "batch",
        discriminator_norm: DiscriminatorNorm = "batch",
        gradient_penalty_weight: float | None = None,
        r1_weight: float = 0.0,
        generator_lr: float = 2e-4,
        discriminator_lr: float = 2e-4,
        beta1: float = 0.5,
        discriminator_steps: int = 1,
        conditioning: Conditioning = "none",
        class_weight: float = 1.0,
        feature_network: str | None = None,
        feature_matching_weight: float = 0.0,
    ) -> None:
        super().__init__(spec)
        if gradient_penalty_weight is None:
            gradient_penalty_weight = 10.0 if loss == "wasserstein" else 0.0
        _check(spec, discriminator_norm, gradient_penalty_weight + r1_weight, discriminator_steps, conditioning)
        check_numbers(
            latent_size=latent_size, width=width, generator_lr=generator_lr, discriminator_lr=discriminator_lr
        )
        check_numbers(zero=True, gradient_penalty_weight=gradient_penalty_weight, r1_weight=r1_weight)
        check_numbers(zero=True, class_weight=class_weight, feature_matching_weight=feature_matching_weight)
        if feature_matching_weight and feature_network is None:
            raise UserError(
                "model.feature_matching_weight needs a network that provides the features.",
                "Set model.feature_network to a run of cnn (`aigc fit --config cnn_digits`), vgg16 or "
                "efficientnet_lite0.",
            )
        if not 0 <= beta1 < 1:
            raise UserError(f"model.beta1 is {beta1}.", "Give a number of at least 0 and below 1.")
        self.latent_size, self.loss, self.discriminator_steps = latent_size, loss, discriminator_steps
        self.gradient_penalty_weight, self.r1_weight = gradient_penalty_weight, r1_weight
        self.lrs, self.beta1 = (discriminator_lr, generator_lr), beta1
        self.discriminator_norm = discriminator_norm
        self.conditioning, self.class_weight = conditioning, class_weight
        self.num_classes = spec.num_classes if conditioning != "none" else 0
        self.feature_network, self.feature_matching_weight = feature_network, feature_matching_weight
        self.features: FeatureNetwork | None = None  # not registered as a sub-module, so not part of this model
        self.generator = DCGANGenerator(latent_size, spec.shape, width, generator_norm, self.num_classes)
        self.discriminator = DCGANDiscriminator(spec.shape, width, discriminator_norm, self.num_classes, conditioning)
        initialize_normal(self)
        if discriminator_norm == "spectral":
            spectrally_normalized(self.discriminator)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)  # faster, with the same results

    def setup(self, stage: str) -> None:
        """Load the feature-matching network before training starts."""
        if stage == "fit" and self.feature_matching_weight:
            self.features = FeatureNetwork(str(self.feature_network))
            refer(self, "feature_network", str(self.feature_network), self.features.sha256)

    def sample(self, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged generator if one is kept.

        Args:
            seeds: non-negative.
            labels: the class of each image, for models with classes; by default seed mod K, so that neighbouring seeds
                show all classes.
        """
        if labels is None and self.num_classes:
            labels = [seed % self.num_classes for seed in seeds]
        return self.decode(self.latents(seeds), labels)

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, (B, Z)."""
        return seeded_normal(seeds, self.latent_size).to(self.device, cast(torch.dtype, self.dtype))

    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] of latents (B, Z); for models with classes, labels default to 0."""
        if labels is None and self.num_classes:
            labels = [0] * len(latents)
        with self.inference():
            classes = None if labels is None else torch.as_tensor(labels, device=self.device)
            latents = latents.to(self.device, cast(torch.dtype, self.dtype))
            images: Tensor = self.averaged("generator")(latents, classes).clamp(-1, 1)
        return images

    def judge(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits (B,) of D, and the cross entropy of its class predictions: 0 if it makes none."""
        return self._verdict(self.discriminator(images, labels), labels)

    def _verdict(self, output: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.conditioning != "auxiliary":
            return output, output.new_zeros(())
        assert labels is not None
        return output[:, 0], cross_entropy(output[:, 1:], labels)

    def real_loss(self, real: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the part of D's loss that depends on real images (B, C, H, W), without penalties."""
        return self._loss_on_real(self.discriminator(real, labels), labels)

    def _loss_on_real(self, output: Tensor, labels: Tensor | None) -> Tensor:
        logits, class_loss = self._verdict(output, labels)
        if self.loss != "wasserstein":  # whose logits have no meaningful sign
            self.observe_real(logits)
        loss: Tensor = LOSSES[self.loss].discriminator_on_real(logits)
        if self.conditioning == "auxiliary":
            self.record("real_class_loss", class_loss)
            loss = loss + self.class_weight * class_loss
        return loss

    def discriminator_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the loss of D on real and fake images (B, C, H, W), penalties included; no gradient reaches G."""
        fake = fake.detach()
        if not self._judges_together:
            loss: Tensor = self.loss_on_real(real, labels)
            output = self.discriminator(fake, labels)
        else:  # in one pass, of fewer and larger operations
            both = None if labels is None else torch.cat([labels, labels])
            real_output, output = self.discriminator(torch.cat([real, fake]), both).split([len(real), len(fake)])
            loss = self._loss_on_real(real_output, labels)
        logits, class_loss = self._verdict(output, labels)
        loss = loss + LOSSES[self.loss].discriminator_on_fake(logits)
        if self.conditioning == "auxiliary":
            loss = loss + self.class_weight * class_loss

        def logits_of(images: Tensor) -> Tensor:
            return self.judge(images, labels)[0]

        if self.gradient_penalty_weight:
            penalty = gradient_penalty(logits_of, real, fake, self.uniform(len(real)))
            self.record("gradient_penalty", penalty)
            loss = loss + self.gradient_penalty_weight * penalty
        if self.r1_weight:
            penalty = r1(logits_of, real)
            self.record("r1", penalty)
            loss = loss + 0.5 * self.r1_weight * penalty
        return loss

    @property
    def _judges_together(self) -> bool:
        """Whether D may see real and fake images at once: each is judged by itself, and nothing asks for either."""
        alone = self.discriminator_norm != "batch" and self.augmentation is None
        return alone and not self.is_private and type(self).real_loss is DCGAN.real_loss

    def generator_loss(self, fake: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the loss of G on its images (B, C, H, W)."""
        logits, class_loss = self.judge(fake, labels)
        loss: Tensor = LOSSES[self.loss].generator(logits)
        if self.conditioning == "auxiliary":
            self.record("fake_class_loss", class_loss)
            loss = loss + self.class_weight * class_loss
        return loss

    def feature_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the weighted difference between the mean features of real and fake images (B, C, H, W), or 0."""
        if self.features is None:
            return fake.new_zeros(())
        with torch.no_grad():
            wanted = self.features(real)
        loss = feature_matching(wanted, self.features(fake))
        self.record("feature_matching", loss)
        return self.feature_matching_weight * loss

    def adversarial_step(self, batch: ImageBatch) -> None:
        """Update D, then G, on one shared batch of fakes, which have the classes of the real images."""
        real = batch["image"]
        labels = batch["label"] if self.num_classes else None
        fake = self.generator(self.noise(len(real), self.latent_size), labels)
        self.update("discriminator", lambda: self.discriminator_loss(real, fake, labels))
        self.update(
            "generator",
            lambda: self.generator_loss(fake, labels) + self.feature_loss(real, fake),
            every=self.discriminator_steps,
        )

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for each player, as in the paper."""
        networks: list[Any] = [getattr(self, name) for name in self.players]
        return [
            Adam(network.parameters(), lr=lr, betas=(self.beta1, 0.999), fused=True)
            for network, lr in zip(networks, self.lrs, strict=True)
        ]


def _check(
    spec: ImageSpec, discriminator_norm: str, penalty_weight: float, discriminator_steps: int, conditioning: str
) -> None:
    if any(size % 4 or size < 8 for size in (spec.height, spec.width)):
        raise UserError(
            f"DCGAN halves images at least twice, but the data is {spec}.",
            "Choose a height and width of the data that are multiples of 4, at least 8.",
        )
    if penalty_weight and discriminator_norm == "batch":
        raise UserError(
            "A gradient penalty needs a discriminator that treats each image independently, but batch norm mixes them.",
            "Set model.discriminator_norm to group, instance, spectral or none.",
        )
    if conditioning != "none" and not spec.class_names:
        raise UserError(
            f"model.conditioning is {conditioning}, but the images have no classes ({spec}).",
            "Set model.conditioning to none, or choose data with labels.",
        )
    if discriminator_steps < 1:
        raise UserError(f"model.discriminator_steps is {discriminator_steps}.", "Give at least 1.")
