"""What `pixelcnn` and `pixelrnn` have in common: exact likelihoods, images drawn pixel by pixel, and completion.

Shapes: B batch, C channels, H and W height and width in pixels, K classes. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.batch import check_needs
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.likelihood import bits_per_dim
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Adam

from aigc_autoregressive.exporting_pixels import pixel_graphs
from aigc_autoregressive.levels import to_images, to_levels
from aigc_autoregressive.pixels import PixelCNN, PixelRNN, sample_pixels

_LEVELS = 256


class PixelModel(ImageModel):
    """Base class of the models of pixels; a subclass builds `network`.

    Args:
        spec: format of the images; declared by the data.
        conditions: "none" or "labels" (the data's classes).
        num_levels: values that a number of an image can have.
        lr: peak Adam learning rate.
        beta2: Adam's second decay rate.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again; None keeps it.

    Raises:
        UserError: the data is not single images or has no classes, or an argument is out of range.
    """

    averaged_networks = ("network",)
    monitor = "val/bits_per_dim"
    keeps_unmasked: ClassVar[bool] = True
    likelihood_kind: ClassVar[str] = "exact"
    network: PixelCNN | PixelRNN

    def __init__(
        self,
        spec: ImageSpec,
        conditions: Literal["none", "labels"],
        num_levels: int,
        lr: float,
        beta2: float,
        warmup_steps: int,
        schedule_steps: int | None,
    ) -> None:
        super().__init__(spec)
        if spec.task != "generation":
            raise UserError(f"A model of pixels learns from single images; the data are {spec.task}.", "Choose others.")
        check_needs("A model of pixels with conditions", ["label"] if conditions == "labels" else [], spec)
        check_numbers(lr=lr, schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, warmup_steps=warmup_steps)
        if not 2 <= num_levels <= _LEVELS:
            raise UserError(f"model.num_levels is {num_levels}.", f"Give a number from 2 to {_LEVELS}.")
        if not 0 <= beta2 < 1:
            raise UserError(f"model.beta2 is {beta2}.", "Give a number of at least 0 and below 1.")
        self.num_levels, self.num_classes = num_levels, spec.num_classes if conditions == "labels" else 0
        self.without_conditions = () if self.num_classes else ("labels",)
        self.lr, self.beta2, self.warmup_steps, self.schedule_steps = lr, beta2, warmup_steps, schedule_steps

    # ---- inference

    def sample(self, seeds: Sequence[int], labels: Sequence[int] | None = None, *, temperature: float = 1.0) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged network.

        Args:
            seeds: non-negative.
            labels: the class of each image, for models with classes; by default seed mod K, so that neighbouring seeds
                show all classes.
            temperature: below 1 draws likelier pixels, 0 the likeliest; 1 draws from what was learned.

        Raises:
            UserError: an option is out of range, or labels are given to a model without classes.
        """
        self._check(temperature, labels)
        if labels is None:
            labels = [seed % max(self.num_classes, 1) for seed in seeds]
        return self._drawn_pixels(seeds, self._tensor(labels), temperature)

    def edit(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """Return completed images, (B, C, H, W) in [-1, 1]: pixels in the mask are drawn, others stay exactly.

        A pixel is drawn given all pixels above it and those to its left in its own row. It knows nothing of those
        after it, so a hole fits to what is above it and need not fit to what is below: these models complete images
        whose lower part is missing.

        Args:
            images: (B, C, H, W) in [-1, 1].
            masks: (B, 1, H, W), 1 where pixels are to be drawn; the lower half by default.
            seeds: for variants, one per image; 0 for all by default. With classes they also choose one, by its
                probability given the pixels before the hole.
            temperature: see `sample`.

        Raises:
            UserError: the images differ in size from those of training, or an option is out of range.
        """
        self._check(temperature)
        self._check_size(images)
        seeds = [0] * len(images) if seeds is None else seeds
        if masks is None:
            masks = torch.zeros(len(images), 1, *images.shape[2:])
            masks[:, :, images.shape[2] // 2 :] = 1
        images, holes = images.to(self.device), masks.to(self.device)[:, 0] >= 0.5
        labels = self._likely_classes(images, holes, seeds) if self.num_classes else None
        drawn = self._drawn_pixels(seeds, labels, temperature, (images, ~holes))
        return torch.where(holes.unsqueeze(1), drawn.to(images), images)

    def log_likelihood(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return the exact log-likelihood of 8-bit images in nats, float64 (B,), by the averaged network.

        It is a probability: those of all images sum to 1. Images with values that are none of the model's levels have
        probability 0 and get -inf.

        Args:
            images: (B, C, H, W) of 256 levels in [-1, 1].
            labels: the class of each image, for models with classes; by default the likelihood is that of a mixture of
                all classes with equal weights.

        Raises:
            UserError: the images differ in size from those of training, or labels are given to a model without classes.
        """
        self._check(1.0, labels)
        self._check_size(images)
        images = images.to(self.device)
        if labels is not None or not self.num_classes:
            found = self._log_prob(images, self._tensor(labels or [])).flatten(1).sum(1)
        else:
            by_class = self._by_class(images).flatten(2).sum(2)
            found = torch.logsumexp(by_class, dim=0) - torch.tensor(float(self.num_classes)).double().log()
        levels = to_images(to_levels(images, self.num_levels), self.num_levels)
        known = (to_levels(levels, _LEVELS) == to_levels(images, _LEVELS)).flatten(1).all(1)
        return found.masked_fill(~known, -torch.inf)

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return `predict` with the loop that draws pixels, `log_likelihood`, and what is not exported and why."""
        return pixel_graphs(self)

    # ---- training

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the negative log-likelihood of a batch, per number of an image."""
        loss = -self._log_prob_of(self.network, batch["image"], self._labels_of(batch)).mean() / self.spec.channels
        self.record("bits_per_dim", bits_per_dim(-loss, 1))
        return loss * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Record the bits per dimension of held-out images under the averaged network."""
        found = self._log_prob(batch["image"], self._labels_of(batch)).flatten(1).sum(1)
        self.log_held_out("bits_per_dim", bits_per_dim(found, prod(self.spec.shape)))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, stepped per batch."""
        optimizer = Adam(self.network.parameters(), lr=self.lr, betas=(0.9, self.beta2), fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- parts

    def _log_prob_of(self, network: Any, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return the log-probability of each pixel, (B, H, W), with gradients."""
        found: Tensor = network.log_prob_from(network(images, labels), images)
        return found

    def _log_prob(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return the log-probability of each pixel under the averaged network, float64 (B, H, W)."""
        network: Any = self.averaged("network")
        images = images.to(next(network.parameters()).dtype)
        with self.inference():
            return self._log_prob_of(network, images, labels).double()

    def _by_class(self, images: Tensor) -> Tensor:
        """Return the log-probability of each pixel given each class, (K, B, H, W)."""
        classes = [self._tensor([label] * len(images)) for label in range(self.num_classes)]
        return torch.stack([self._log_prob(images, labels) for labels in classes])

    def _likely_classes(self, images: Tensor, holes: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw a class for each image, int64 (B,), from its probability given the pixels before the first hole."""
        before = holes.flatten(1).cumsum(1) == 0
        evidence = self._by_class(images).flatten(2).masked_fill(~before, 0.0).sum(2)  # (K, B)
        shares = evidence.softmax(0).cumsum(0)
        draws = keyed.uniform(np.array(seeds, np.uint64), before.shape[1], 0)  # the place after all pixels
        return (shares[:-1] <= torch.from_numpy(draws).to(shares)).sum(0)

    def _drawn_pixels(
        self,
        seeds: Sequence[int],
        labels: Tensor | None,
        temperature: float,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        network: Any = self.averaged("network")
        size = (self.spec.height, self.spec.width)
        with self.inference():
            images = sample_pixels(network, seeds, size, labels=labels, temperature=temperature, known=known)
        return images.float().clamp(-1, 1)

    def _labels_of(self, batch: Any) -> Tensor | None:
        return batch["label"] if self.num_classes else None

    def _tensor(self, labels: Sequence[int]) -> Tensor | None:
        return torch.tensor(list(labels), device=self.device) if self.num_classes else None

    def _check(self, temperature: float, labels: Sequence[int] | None = None) -> None:
        if temperature < 0:
            raise UserError(f"temperature is {temperature}.", "Give 0 or more; 1 draws from what was learned.")
        if labels is not None and not self.num_classes:
            raise UserError("This model was trained without classes.", "Leave labels out.")

    def _check_size(self, images: Tensor) -> None:
        if images.shape[1:] != torch.Size(self.spec.shape):
            raise UserError(
                f"This model was trained on images of {self.spec}, but got {images.shape[-2]}x{images.shape[-1]}.",
                "Resize them first.",
            )
