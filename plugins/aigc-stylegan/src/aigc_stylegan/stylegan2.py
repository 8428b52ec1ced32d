"""StyleGAN2.

Papers: Karras et al., A Style-Based Generator Architecture for GANs, CVPR 2019, https://arxiv.org/abs/1812.04948;
Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, https://arxiv.org/abs/1912.04958;
Karras et al., Training GANs with Limited Data, NeurIPS 2020, https://arxiv.org/abs/2006.06676 (classes; its adaptive
augmentation is `--engine.augment ada`).
Departures from the papers: both updates of a step share one batch of fakes, and R1 comes before them; path lengths are
computed on half a batch and compared with their running mean over earlier steps; the mean style for truncation is
computed per class from 4,096 latents at inference, not tracked in training; images may be rectangular.
Shapes: B batch, C channels, H and W height and width in pixels, Z latent size, S style size, L number of styles, N
number of noise inputs. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses import nonsaturating
from aigc_lightning.losses.penalties import r1
from torch import Tensor
from torch.optim import Adam, Optimizer

from aigc_stylegan.discriminator import Discriminator
from aigc_stylegan.generator import Generator
from aigc_stylegan.layers import GROUP_SIZE
from aigc_stylegan.path_length import path_lengths
from aigc_stylegan.precision import without_float16
from aigc_stylegan.pyramid import pyramid
from aigc_stylegan.truncation import MeanStyles

_PATH_SHARE = 0.01  # weight of the current lengths in the running mean (StyleGAN2, appendix B)


class StyleGAN2(AdversarialModel):
    """StyleGAN2 for images whose shorter side is a power of two from 16 up.

    The longer side is a multiple of a quarter of the shorter one: 16x32, 64x96.

    Args:
        spec: format of the images; declared by the data.
        latent_size: Z, the dimension of latents.
        style_size: S, the dimension of styles.
        mapping_layers: layers of the mapping network.
        conditional: condition on the classes of the images.
        channel_base: a level whose shorter side is R has channel_base / R channels, 32768 being the papers' config F.
        channel_max: maximum number of channels of a level.
        residual: use residual blocks in the discriminator; otherwise plain ones, as before StyleGAN2.
        group_size: images of a batch that the discriminator compares with each other (minibatch standard deviation).
        lr: Adam learning rate of both networks.
        style_mixing: share of the fakes with two styles, one up to a random layer and another one above it.
        r1_weight: gamma of the R1 penalty, gamma / 2 times the squared gradient norm of D at real images; 0 for none.
            The third paper's rule of thumb is 0.0002 H W / B.
        r1_every: the penalty is a separate update every `r1_every` steps.
        path_length_weight: weight of the path-length regularisation; 0 for none.
        path_length_every: it is a separate update every `path_length_every` steps.

    Raises:
        UserError: the size of the images is unsupported, they have no classes for `conditional`, or a number is out of
            range.
    """

    aigc_api = 1  # the plugin API version that this class was written for
    players = ("discriminator", "generator")  # in the order of their optimizers
    spaces: ClassVar[tuple[str, ...]] = ("z", "w")  # latents and styles

    path_length_mean: Tensor  # running mean over earlier steps

    def __init__(
        self,
        spec: ImageSpec,
        latent_size: int = 512,
        style_size: int = 512,
        mapping_layers: int = 8,
        conditional: bool = False,
        channel_base: int = 32768,
        channel_max: int = 512,
        residual: bool = True,
        group_size: int = GROUP_SIZE,
        lr: float = 2e-3,
        style_mixing: float = 0.9,
        r1_weight: float = 10.0,
        r1_every: int = 16,
        path_length_weight: float = 2.0,
        path_length_every: int = 4,
    ) -> None:
        super().__init__(spec)
        check_numbers(latent_size=latent_size, style_size=style_size, lr=lr)
        check_numbers(most=MOST_LAYERS, mapping_layers=mapping_layers)
        check_numbers(channel_max=channel_max, group_size=group_size)
        check_numbers(r1_every=r1_every, path_length_every=path_length_every)
        check_numbers(zero=True, r1_weight=r1_weight, path_length_weight=path_length_weight)
        if not 0 <= style_mixing <= 1:
            raise UserError(f"model.style_mixing is {style_mixing}.", "Give a share from 0 to 1.")
        if conditional and not spec.num_classes:
            raise UserError(
                f"model.conditional is set, but the images have no classes ({spec}).",
                "Leave model.conditional out, or choose data with labels.",
            )
        base, widths = pyramid("StyleGAN2", spec, channel_base, channel_max)
        self.latent_size, self.num_classes = latent_size, spec.num_classes if conditional else 0
        self.lr, self.style_mixing = lr, style_mixing
        self.r1_weight, self.r1_every = r1_weight, r1_every
        self.path_length_weight, self.path_length_every = path_length_weight, path_length_every
        self.generator = Generator(
            latent_size, style_size, self.num_classes, mapping_layers, spec.channels, base, widths
        )
        self.group_size = group_size
        self.discriminator = Discriminator(
            spec.channels, base, widths, style_size, self.num_classes, mapping_layers, residual, group_size
        )
        self.register_buffer("path_length_mean", torch.zeros(()))
        self._lengths: list[Tensor] = []  # path lengths of the current step
        self._means = MeanStyles(latent_size)

    def sample(self, seeds: Sequence[int], labels: Sequence[int] | None = None, *, trunc: float = 1.0) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged generator if one is kept.

        Args:
            seeds: non-negative.
            labels: the class of each image, for a conditional model; by default `seed_labels`.
            trunc: truncation, the factor of the styles' distance from their mean: below 1 gives more typical images and
                less variety, below 0 opposites, above 1 exaggerations (StyleGAN, appendix B).
        """
        labels = self.seed_labels(seeds) if labels is None else labels
        return self.decode(self.latents(seeds), labels, trunc=trunc)

    def seed_labels(self, seeds: Sequence[int]) -> list[int] | None:
        """Return the default class of each seed, the seed modulo the number of classes.

        None for a model without classes.
        """
        return [seed % self.num_classes for seed in seeds] if self.num_classes else None

    def latents(
        self, seeds: Sequence[int], labels: Sequence[int] | None = None, space: Literal["z", "w"] = "z"
    ) -> Tensor:
        """Return the latent of each seed, (B, Z), or its style, (B, S).

        Args:
            seeds: non-negative.
            labels: the class of each seed, for styles of a conditional model; by default `seed_labels`.
            space: "z" for latents, "w" for styles.
        """
        latents = seeded_normal(seeds, self.latent_size).to(self.device, cast(torch.dtype, self.dtype))
        if space == "z":
            return latents
        classes = self._classes(self.seed_labels(seeds) if labels is None else labels)
        with self.inference():
            styles: Tensor = self._network().mapping(latents, classes)
        return styles

    def decode(
        self,
        latents: Tensor,
        labels: Sequence[int] | None = None,
        space: Literal["z", "w"] = "z",
        *,
        trunc: float = 1.0,
    ) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] from latents or styles.

        Args:
            latents: (B, Z) on any device; in the space "w" styles (B, S), or (B, L, S) with one for each layer.
            labels: the class of each image, for a conditional model; by default class 0.
            space: "z" for latents, "w" for styles.
            trunc: truncation, as in `sample`.
        """
        if labels is None and self.num_classes:
            labels = [0] * len(latents)
        classes, network = self._classes(labels), self._network()
        latents = latents.to(self.device, cast(torch.dtype, self.dtype))
        with self.inference():
            if space == "z" and trunc == 1:
                images: Tensor = network(latents, classes)
            else:
                styles = network.mapping(latents, classes) if space == "z" else latents
                if styles.ndim == 2:
                    styles = styles[:, None].expand(-1, network.synthesis.num_styles, -1)
                if trunc != 1:
                    styles = torch.lerp(self.mean_styles(labels)[:, None], styles, trunc)
                images = network.synthesis(styles)
        return images.clamp(-1, 1)

    def mean_styles(self, labels: Sequence[int] | None = None) -> Tensor:
        """Return the mean style (1, S), or for a conditional model that of each label's class (B, S)."""
        return self._means.of(self._network().mapping, self._classes(labels))

    def mixed_styles(self, count: int, labels: Tensor | None) -> Tensor:
        """Return random keyed styles (count, L, S), some of which switch to another style at a random layer."""
        network, num_styles = self.generator, self.generator.synthesis.num_styles
        first: Tensor = network.mapping(self.noise(count, self.latent_size), labels)[:, None]
        if not self.style_mixing:
            return first.expand(-1, num_styles, -1)
        second: Tensor = network.mapping(self.noise(count, self.latent_size), labels)[:, None]
        mixes, place = self.uniform(count, 2).unbind(dim=1)
        layers = torch.arange(num_styles, device=place.device)
        crossovers = 1 + (place * (num_styles - 1)).long()  # the first layer of the second style
        others = (mixes < self.style_mixing)[:, None] & (layers >= crossovers[:, None])
        return torch.where(others[:, :, None], second, first)

    def discriminator_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the loss of D on real and fake images (B, C, H, W); no gradient reaches G."""
        real_logits = self.discriminator(real, labels)
        self.observe_real(real_logits)
        return nonsaturating.discriminator(real_logits, self.discriminator(fake.detach(), labels))

    def generator_loss(self, fake: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the loss of G on its images (B, C, H, W)."""
        return nonsaturating.generator(self.discriminator(fake, labels))

    def r1_loss(self, real: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the R1 penalty at real images, scaled up for the steps between its updates."""
        with without_float16(real.device):
            penalty = r1(lambda images: self.discriminator(images, labels), real)
        self.record("r1", penalty)
        return self.r1_every * 0.5 * self.r1_weight * penalty

    def path_length_loss(self, count: int, labels: Tensor | None = None) -> Tensor:
        """Return the path-length penalty, scaled up for the steps between its updates.

        It uses every second sample: half a batch is enough and costs half.
        """
        styles = self.mixed_styles(count, labels)[::2]
        synthesis = self.generator.synthesis
        noises = self.noise(count, synthesis.num_noise)[::2], self.noise(count, *self.spec.shape)[::2]
        with without_float16(styles.device):
            images = synthesis(styles, noises[0])
            lengths = path_lengths(images, styles, noises[1])
        self._lengths.append(lengths.detach())
        self.record("path_length", lengths.mean())
        penalty = (lengths - self.path_length_mean).square().mean()
        return self.path_length_every * self.path_length_weight * penalty

    def adversarial_step(self, batch: ImageBatch) -> None:
        """Update D, then G, on one shared batch of fakes, and the regularisation updates that are due."""
        real, count = batch["image"], len(batch["image"])
        labels = batch["label"] if self.num_classes else None
        if self.r1_weight:  # before the fakes are made, which take memory
            every = self.r1_every
            self.update("discriminator", lambda: self.r1_loss(real, labels), every=every, name="discriminator_r1")
        noise = self.noise(count, self.generator.synthesis.num_noise)
        fake = self.generator.synthesis(self.mixed_styles(count, labels), noise)
        self.update("discriminator", lambda: self.discriminator_loss(real, fake, labels))
        self.update("generator", lambda: self.generator_loss(fake, labels))
        if self.path_length_weight:
            every = self.path_length_every
            self.update("generator", lambda: self.path_length_loss(count, labels), every=every, name="generator_path")

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Run the step, then update the mean path length with the lengths of all parts of the batch."""
        super().training_step(batch, batch_idx)
        if self._lengths:
            lengths = torch.cat(self._lengths)
            self._lengths.clear()
            sums = torch.stack([lengths.sum(), lengths.new_tensor(float(len(lengths)))])
            total, number = self.sum_over_processes(sums)
            mean = torch.lerp(self.path_length_mean, total / number, _PATH_SHARE)
            # A step that the engine skips leaves the mean unchanged.
            self.path_length_mean.copy_(torch.where(mean.isfinite(), mean, self.path_length_mean))

    def configure_optimizers(self) -> list[Optimizer]:
        """Return one Adam optimizer per player, slowed down for the extra updates (StyleGAN2, appendix B)."""
        intervals = {
            "discriminator": self.r1_every if self.r1_weight else None,
            "generator": self.path_length_every if self.path_length_weight else None,
        }
        optimizers: list[Optimizer] = []
        for name in self.players:
            interval = intervals[name]
            share = 1.0 if interval is None else interval / (interval + 1)
            network: Any = getattr(self, name)
            optimizers.append(
                Adam(network.parameters(), lr=self.lr * share, betas=(0.0, 0.99**share), eps=1e-8, fused=True)
            )
        return optimizers

    def _network(self) -> Generator:
        return cast(Generator, self.averaged("generator"))

    def _classes(self, labels: Sequence[int] | None) -> Tensor | None:
        """Return labels as the mapping network takes them, (B,); None for a model without classes."""
        return torch.as_tensor(labels, device=self.device) if self.num_classes else None
