"""Progressive growing of GANs.

Paper: Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, ICLR 2018,
https://arxiv.org/abs/1710.10196
Departures from the paper: leaky ReLUs are scaled by sqrt(2), as in its successors; both updates of a step share one
batch of fakes; the batch is the same at all levels; images may be rectangular.
Shapes: B batch, C channels, H and W height and width in pixels, h and w those of the current level, Z latent size.
Images lie in [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.export_graphs import ExportGraph, derived_graphs
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.losses import wasserstein
from aigc_lightning.losses.penalties import gradient_penalty
from torch import Tensor
from torch.optim import Adam, Optimizer

from aigc_stylegan.layers import GROUP_SIZE
from aigc_stylegan.progressive import ProgressiveDiscriminator, ProgressiveGenerator, double, reduced
from aigc_stylegan.pyramid import pyramid


class ProGAN(AdversarialModel):
    """Progressively growing GAN for images whose shorter side is a power of two from 16 up.

    The longer side is a multiple of a quarter of the shorter one: 16x32, 64x96. Training begins at 4 pixels. Each level
    fades in and is then trained alone; the optimizers are reset at each.

    Args:
        spec: format of the images; declared by the data.
        latent_size: Z, the dimension of latents.
        channel_base: a level whose shorter side is R has channel_base / R channels, 16384 being the paper's.
        channel_max: maximum number of channels of a level.
        fade_images: real images during which a level fades in.
        stable_images: real images for which a level is then trained before the next one is added.
        lr: Adam learning rate of both networks.
        gradient_penalty_weight: weight of the gradient penalty on D between real and fake images.
        drift_weight: weight of the mean square of D at real images, which keeps its values near 0.

    Raises:
        UserError: the size of the images is unsupported, or a number is out of range.
    """

    aigc_api = 1  # the plugin API version that this class was written for
    players = ("discriminator", "generator")  # in the order of their optimizers
    group_size = GROUP_SIZE

    images_seen: Tensor  # int64, over all earlier steps

    def __init__(
        self,
        spec: ImageSpec,
        latent_size: int = 512,
        channel_base: int = 16384,
        channel_max: int = 512,
        fade_images: int = 800_000,
        stable_images: int = 800_000,
        lr: float = 1e-3,
        gradient_penalty_weight: float = 10.0,
        drift_weight: float = 1e-3,
    ) -> None:
        super().__init__(spec)
        check_numbers(latent_size=latent_size, channel_max=channel_max, lr=lr)
        check_numbers(fade_images=fade_images, stable_images=stable_images)
        check_numbers(zero=True, gradient_penalty_weight=gradient_penalty_weight, drift_weight=drift_weight)
        base, widths = pyramid("ProGAN", spec, channel_base, channel_max)
        self.latent_size, self.lr, self.last_level = latent_size, lr, len(widths) - 1
        self.fade_images, self.stable_images = fade_images, stable_images
        self.gradient_penalty_weight, self.drift_weight = gradient_penalty_weight, drift_weight
        self.generator = ProgressiveGenerator(latent_size, spec.channels, base, widths)
        self.discriminator = ProgressiveDiscriminator(spec.channels, base, widths)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self._stage = (0, 1.0)  # level and fade of this step

    def stage(self, images_seen: int) -> tuple[int, float]:
        """Return the level, 0 being the smallest, and how far it has faded in, from 0 to 1, after so many images."""
        rounds, rest = divmod(images_seen + self.fade_images, self.fade_images + self.stable_images)
        if rounds > self.last_level:
            return self.last_level, 1.0
        return rounds, 1.0 if rounds == 0 else min(rest / self.fade_images, 1.0)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged generator if one is kept."""
        return self.decode(self.latents(seeds))

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, (B, Z)."""
        return seeded_normal(seeds, self.latent_size).to(self.device, cast(torch.dtype, self.dtype))

    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] from latents (B, Z); before the last level, pixels are repeated."""
        return self._images(latents, *self.stage(int(self.images_seen)))

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return what `aigc export` writes: the generator at the level that it has reached."""
        level, fade = self.stage(int(self.images_seen))
        graph = derived_graphs(self)["decode"]
        assert isinstance(graph, ExportGraph)
        return {"decode": replace(graph, call=partial(self._images, level=level, fade=fade))}

    def _images(self, latents: Tensor, level: int, fade: float) -> Tensor:
        with self.inference():
            latents = latents.to(self.device, cast(torch.dtype, self.dtype))
            images: Tensor = self.averaged("generator")(latents, level, fade)
            for _ in range(self.last_level - level):
                images = double(images)
        return images.float().clamp(-1, 1)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of D on real and fake images (B, C, h, w) of the current level; no gradient reaches G."""
        fake = fake.detach().to(real.dtype)  # mixed precision gives fakes another type
        real_values, fake_values = self.judge(real), self.judge(fake)
        loss = wasserstein.discriminator(real_values, fake_values) + self.drift_weight * real_values.square().mean()
        if self.gradient_penalty_weight:
            penalty = gradient_penalty(self.judge, real, fake, self.uniform(len(real)))
            self.record("gradient_penalty", penalty)
            loss = loss + self.gradient_penalty_weight * penalty
        return loss

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the loss of G on its images (B, C, h, w)."""
        return wasserstein.generator(self.judge(fake))

    def judge(self, images: Tensor) -> Tensor:
        """Return the outputs of D, (B,), for images (B, C, h, w) of the current level."""
        values: Tensor = self.discriminator(images, *self._stage)
        return values

    def adversarial_step(self, batch: ImageBatch) -> None:
        """Update D, then G, on one shared batch of fakes."""
        level, fade = self._stage
        real = reduced(batch["image"], self.last_level - level, fade)
        fake = self.generator(self.noise(len(real), self.latent_size), level, fade)
        self.update("discriminator", lambda: self.discriminator_loss(real, fake))
        self.update("generator", lambda: self.generator_loss(fake))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Run the step at the current level, with new optimizers if the level is new, and count the images."""
        count = torch.tensor(len(batch["image"]), device=self.device)
        count = self.sum_over_processes(count)
        self._stage = self.stage(int(self.images_seen))
        self.record("level", self.images_seen.new_tensor(self._stage[0] - 1 + self._stage[1], dtype=torch.float32))
        super().training_step(batch, batch_idx)
        self.images_seen += count
        if self.stage(int(self.images_seen))[0] != self._stage[0]:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def configure_optimizers(self) -> list[Optimizer]:
        """Return one Adam optimizer per player, as in the paper."""
        return [
            Adam(getattr(self, name).parameters(), lr=self.lr, betas=(0.0, 0.99), eps=1e-8, fused=True)
            for name in self.players
        ]
