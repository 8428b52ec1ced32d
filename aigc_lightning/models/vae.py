"""Variational autoencoder.

Papers: Kingma and Welling, ICLR 2014, https://arxiv.org/abs/1312.6114; Higgins et al., beta-VAE, ICLR 2017,
https://openreview.net/forum?id=Sy2fzU9gl; Sonderby et al., NeurIPS 2016, https://arxiv.org/abs/1602.02282 (warm-up of
the divergence); Kingma et al., NeurIPS 2016, https://arxiv.org/abs/1606.04934 (free bits); Rybkin et al., sigma-VAE,
ICML 2021, https://arxiv.org/abs/2006.13202 (a Gaussian whose scale is learned and the same for all pixels).
Departures from the papers: residual convolutional networks; the bound is divided by the number of dimensions of an
image, so that learning rates do not depend on its size; Adam with cosine decay.
Shapes: B batch, C channels, H and W height and width in pixels, Z latent size. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam

from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.image_model import ImageModel, seeded_normal
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses import kullback_leibler
from aigc_lightning.losses.dequantisation import dequantised, log_probability
from aigc_lightning.losses.likelihood import LIKELIHOODS, NUM_COMPONENTS
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.networks.residual import PreactivationBlock
from aigc_lightning.networks.vae import GaussianHead, MixtureHead, VAEDecoder, VAEEncoder


class Bound(NamedTuple):
    """The terms of the evidence lower bound (ELBO) of images, in nats.

    Args:
        log_likelihood: (B,) of images given latents drawn from their posteriors.
        divergence: (B, Z) of the posteriors from the prior.
    """

    log_likelihood: Tensor
    divergence: Tensor


class VAE(ImageModel):
    """Variational autoencoder for images of a fixed size, with a latent space to interpolate in.

    Held-out images give `val/negative_elbo` = `val/negative_log_likelihood` + `val/divergence`, in nats per dimension
    of an image, whatever beta is, and `val/psnr` of reconstructions (dB, mean over images).

    Args:
        spec: format of the images; declared by the data.
        latent_size: Z.
        width: channels at half the image size; doubled at each downsampling step, up to 8 times.
        likelihood: "gaussian", "bernoulli" (for images that are nearly black and white) or "logistic_mixture" (of 256
            levels).
        scale: standard deviation of the Gaussian, for images in [-1, 1]; None learns it.
        beta: weight of the divergence.
        kl_warmup_steps: batches over which that weight rises from 0.
        free_nats: divergence below which a latent dimension is not penalised, in nats.
        lr: peak Adam learning rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data is not single images, a scale is given for another likelihood, or an argument is out of
            range.
    """

    block_classes = (PreactivationBlock,)
    monitor = "val/negative_elbo"
    likelihood_kind = "lower_bound"

    def __init__(
        self,
        spec: ImageSpec,
        latent_size: int = 32,
        width: int = 32,
        likelihood: Literal["gaussian", "bernoulli", "logistic_mixture"] = "gaussian",
        scale: float | None = None,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        free_nats: float = 0.0,
        lr: float = 1e-3,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task not in ("generation", "restoration"):
            raise UserError(f"The VAE learns from single images; the data are {spec.task}.", "Choose other data.")
        if scale is not None and likelihood != "gaussian":
            raise UserError(f"model.scale is {scale}; the likelihood {likelihood} has none.", "Leave scale out.")
        check_numbers(latent_size=latent_size, width=width, lr=lr, scale=1.0 if scale is None else scale)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, beta=beta, kl_warmup_steps=kl_warmup_steps, free_nats=free_nats)
        check_numbers(zero=True, warmup_steps=warmup_steps)
        self.latent_size, self.beta, self.free_nats = latent_size, beta, free_nats
        self.kl_warmup_steps, self.lr = kl_warmup_steps, lr
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.likelihood = likelihood
        self.encoder = VAEEncoder(spec.shape, width, latent_size)
        heads = {
            "gaussian": GaussianHead(spec.channels, scale),
            "logistic_mixture": MixtureHead(NUM_COMPONENTS, spec.channels),
        }
        num_channels = LIKELIHOODS[likelihood].num_channels(spec.channels)
        self.decoder = nn.Sequential(
            VAEDecoder(latent_size, spec.shape, width, num_channels), heads.get(likelihood, nn.Identity())
        )
        for network in (self.encoder, self.decoder):
            network.to(memory_format=torch.channels_last)  # faster, with the same results

    # ---- inference

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the prior."""
        return self.decode(self.latents(seeds))

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, (B, Z), drawn from the prior."""
        return seeded_normal(seeds, self.latent_size).to(self.device, self._precision)

    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return the mean images (B, C, H, W) in [-1, 1] of latents (B, Z); the model has no classes."""
        with self.inference():
            output = self.decoder(latents.to(self.device, self._precision))
            return LIKELIHOODS[self.likelihood].mean(_accurate(output))

    def embed(self, images: Tensor) -> Tensor:
        """Return the posterior means (B, Z) of images (B, C, H, W).

        Raises:
            UserError: the images differ in size from those the model was trained on.
        """
        self._check_size(images)
        with self.inference():
            return _accurate(self.encoder(images.to(self.device, self._precision))[0])

    def latent_divergence(self, images: Tensor) -> Tensor:
        """Return what each latent dimension says about images (B, C, H, W): its KL divergence in nats, (B, Z)."""
        self._check_size(images)
        with self.inference():
            found = map(_accurate, self.encoder(images.to(self.device, self._precision)))
            return kullback_leibler.from_standard_normal(*found)

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (B, Z) of images (B, C, H, W), which are the means of their posteriors: see `embed`."""
        return self.embed(images)

    def invert(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return the latents (B, Z) of images (B, C, H, W): see `embed`; the model has no classes."""
        return self.embed(images)

    def edit(self, images: Tensor) -> Tensor:
        """Return reconstructions of images (B, C, H, W), from their posterior means."""
        return self.decode(self.embed(images))

    def log_likelihood(self, images: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Return a lower bound of the log-probability of each image in nats, float64 (B,): the ELBO, from one draw.

        For the Gaussian, which is a density, the images are dequantised with uniform noise.

        Args:
            images: (B, C, H, W) of 256 levels in [-1, 1].
            seeds: of the latents and the noise, one per image; 0 for all by default.

        Raises:
            UserError: the likelihood is "bernoulli", which is none of 256 levels, or the images differ in size from
                those the model was trained on.
        """
        if self.likelihood == "bernoulli":
            raise UserError(
                "A VAE with the likelihood bernoulli gives no probabilities of images of 256 levels.",
                "Train with model.likelihood gaussian or logistic_mixture.",
            )
        self._check_size(images)
        seeds = [0] * len(images) if seeds is None else seeds
        is_density = self.likelihood == "gaussian"
        given = dequantised(images, seeds) if is_density else images
        noise = seeded_normal(seeds, self.latent_size).to(self.device, self._precision)
        with self.inference():
            found = self.bound(given.to(self.device, self._precision), noise)
        nats = (found.log_likelihood - found.divergence.sum(1)).double()
        return log_probability(nats, prod(self.spec.shape)) if is_density else nats

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Return the reconstructions of a batch."""
        return self.edit(batch["image"])

    # ---- training

    def on_fit_start(self) -> None:
        """Check that free bits, which apply to the mean of a whole batch, see whole batches.

        Raises:
            UserError: batches are split.
        """
        if self.free_nats and self.engine.micro_batches > 1:
            raise UserError(
                "model.free_nats applies to the mean over a whole batch, which engine.micro_batches splits.",
                "Leave one of them out.",
            )
        super().on_fit_start()

    def bound(self, images: Tensor, noise: Tensor) -> Bound:
        """Return the parts of the evidence lower bound of images (B, C, H, W).

        Args:
            images: in [-1, 1].
            noise: (B, Z) standard normal, for the reparameterisation of the latents (Kingma and Welling, section 2.4).
        """
        mean, log_variance = map(_accurate, self.encoder(images.contiguous(memory_format=torch.channels_last)))
        latents = mean + torch.exp(0.5 * log_variance) * noise
        output = _accurate(self.decoder(latents))
        divergence = kullback_leibler.from_standard_normal(mean, log_variance)
        return Bound(LIKELIHOODS[self.likelihood].log_likelihood(images, output), divergence)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Return the negative bound with weighted divergence, per dimension of an image."""
        images = batch["image"]
        found = self.bound(images, self.noise(len(images), self.latent_size))
        mean = found.divergence.detach().mean(0)
        if self.free_nats and self.trainer.world_size > 1:  # free bits apply to the mean over the whole batch
            mean = cast(Tensor, self.trainer.strategy.reduce(mean * self.share, reduce_op="mean"))
        divergence = kullback_leibler.with_free_bits(found.divergence, self.free_nats, mean).mean()
        numbers = prod(self.spec.shape)
        loss = (self.divergence_weight(self.step) * divergence - found.log_likelihood.mean()) / numbers
        self.record("loss", loss)
        self.record("negative_log_likelihood", -found.log_likelihood.mean() / numbers)
        self.record("divergence", found.divergence.sum(1).mean() / numbers)
        return loss * self.share

    def divergence_weight(self, step: int) -> float:
        """Return the weight of the divergence at a step."""
        return self.beta * min(1.0, step / self.kl_warmup_steps if self.kl_warmup_steps else 1.0)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Record the bound of held-out images, each with its own fixed noise."""
        images, numbers = batch["image"], prod(self.spec.shape)
        noise = seeded_normal(batch["index"].tolist(), self.latent_size).to(images)
        with self.inference():
            found = self.bound(images, noise)
        divergence = found.divergence.sum(1)
        self.log_held_out("negative_elbo", (divergence - found.log_likelihood) / numbers)
        self.log_held_out("negative_log_likelihood", -found.log_likelihood / numbers)
        self.log_held_out("divergence", divergence / numbers)
        self.log_held_out("psnr", psnr((self.edit(images) + 1) / 2, (images + 1) / 2))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, stepped per batch."""
        optimizer = Adam(self.parameters(), lr=self.lr, fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _check_size(self, images: Tensor) -> None:
        if images.shape[-2:] != self.spec.shape[-2:]:
            raise UserError(
                f"This VAE was built for images of {self.spec}, but got {images.shape[-2]}x{images.shape[-1]}.",
                "Resize them first.",
            )

    @property
    def _precision(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _accurate(values: Tensor) -> Tensor:
    """Return float64 values unchanged and others as float32, which is accurate enough to sum likelihoods."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
