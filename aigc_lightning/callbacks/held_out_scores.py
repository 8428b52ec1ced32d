"""Scores of samples against held-out images while a model trains."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from aigc_lightning.callbacks.loggers import log_metrics
from aigc_lightning.core.capabilities import Generator, makes_images
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.sliced_wasserstein import random_directions, wasserstein_on_lines


class SlicedWasserstein(pl.Callback):
    """Logs `val/sliced_wasserstein`, the sliced Wasserstein distance of raw pixels at each validation.

    `aigc test` logs `test/sliced_wasserstein`, of the test images.

    It is a cheap signal for selecting the best checkpoint of a run: it is sensitive to colours, contrast, layout and
    mode collapse. It is not FID, says little about sharpness and detail, and is not comparable between image sizes,
    values of `num`, or numbers of processes. It is never 0: even two halves of the held-out images differ.

    The samples have the same seeds each time. Each process scores its share of the images, and all get the mean,
    weighted by the shares. Models that cannot sample and batches without `image` are ignored.

    Args:
        num: held-out images to compare with, over all processes; all of them if there are fewer.
        num_projections: random directions on which the images are compared.

    Raises:
        UserError: an argument is below 1.
    """

    name = "sliced_wasserstein"

    def __init__(self, num: int = 1000, num_projections: int = 128) -> None:
        for name, value in {"num": num, "num_projections": num_projections}.items():
            if value < 1:
                raise UserError(f"sliced_wasserstein.{name} is {value}.", "Give at least 1.")
        self.num, self.num_projections = num, num_projections
        self._real: list[Tensor] = []  # projections (B, P): the pixels of all images could be too many to keep
        self._directions = torch.empty(0, 0)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the buffers."""
        self._real = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect held-out images until there are enough."""
        wanted = math.ceil(self.num / trainer.world_size) - sum(map(len, self._real))
        if wanted > 0 and self._scores(trainer, pl_module) and isinstance(batch, dict) and "image" in batch:
            self._real.append(self._projected(batch["image"][:wanted]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sample as many, compare, and log."""
        if not self._scores(trainer, pl_module):
            return
        count = sum(map(len, self._real))
        distance = self._distance(trainer, pl_module) if count else 0.0
        # All processes call this, including those without images, so none waits forever.
        sums = torch.tensor([distance * count, count], device=pl_module.device)
        total, weight = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        if weight:
            key = f"{'test' if trainer.testing else 'val'}/{self.name}"
            pl_module.log(key, total / weight, logger=False, sync_dist=True)
            log_metrics(trainer, {key: total / weight})

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the buffers."""
        self.on_validation_start(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect test images until there are enough."""
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sample as many, compare, and log."""
        self.on_validation_epoch_end(trainer, pl_module)

    def _scores(self, trainer: pl.Trainer, model: pl.LightningModule) -> bool:
        return makes_images(model) and not trainer.sanity_checking

    def _distance(self, trainer: pl.Trainer, model: pl.LightningModule) -> float:
        assert isinstance(model, Generator)
        fake, first = [], 0
        for part in self._real:  # in batches of the same sizes, which are known to fit in memory
            seeds = range(first, first + len(part))
            fake.append(
                self._projected(model.sample([seed * trainer.world_size + trainer.global_rank for seed in seeds]))
            )
            first += len(part)
        return wasserstein_on_lines(torch.cat(self._real), torch.cat(fake))

    def _projected(self, images: Tensor) -> Tensor:
        pixels = images.detach().float().flatten(1)
        if self._directions.shape[0] != pixels.shape[1]:
            self._directions = random_directions(pixels.shape[1], self.num_projections)
        self._directions = self._directions.to(pixels.device)
        return pixels @ self._directions
