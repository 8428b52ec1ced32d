"""Scores of samples against real images while a model trains, by a feature extractor."""

import time
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl

from aigc_lightning.callbacks.loggers import log_metrics
from aigc_lightning.callbacks.progress import Progress
from aigc_lightning.core.capabilities import Generator
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.records import checked_state
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.evaluation.generation import Judge, score_set
from aigc_lightning.evaluation.image_sets import Part
from aigc_lightning.evaluation.references import reference_of, samples_like
from aigc_lightning.evaluation.scores import DISTRIBUTION, check_names


class Evaluation(pl.Callback):
    """Logs scores such as `val/frechet_distance` at validations; `--checkpoints.monitor` can choose the best by one.

    The numbers are those of `aigc evaluate` with the same extractor, part and number of images, on one process and on
    several. Samples come from the averaged weights, where there are any, and have the same seeds each time. The real
    images are described once, and kept on disk. `val/evaluation_seconds` is what it cost.

    Args:
        extractor: "inception", "dinov2", "clip", or the run of a classifier.
        scores: which, such as "frechet_distance" or "precision_recall".
        num: images on each side.
        part: of the data that samples are compared with: "train", "val" or "test".
        every_n_validations: score at each so-manieth validation.
        resize: the resize protocol; the extractor's own when None.

    Raises:
        UserError: an extractor that cannot be had, a score that there is not, or a number out of range; before
            training starts, also an extractor whose distances mean nothing, and data or a model without samples.
    """

    def __init__(
        self,
        extractor: str = "inception",
        scores: Sequence[str] = ("frechet_distance",),
        num: int = 2000,
        part: Part = "train",
        every_n_validations: int = 1,
        resize: str | None = None,
    ) -> None:
        check_names(scores)
        unfit = [name for name in scores if name not in DISTRIBUTION or name in ("copy_rate", "perceptual_path_length")]
        if unfit or not scores:
            raise UserError(
                f"evaluation.scores is {', '.join(scores) or 'empty'}.",
                "Give scores of sets of images, such as frechet_distance; the others are for `aigc evaluate`.",
            )
        for name, value, least in (("num", num, 2), ("every_n_validations", every_n_validations, 1)):
            if value < least:
                raise UserError(f"evaluation.{name} is {value}.", f"Give at least {least}.")
        self.extractor = find_extractor(extractor, resize=resize)
        self.scores, self.num, self.part = list(scores), num, part
        self.every_n_validations = every_n_validations
        self._validations = 0

    @property
    def score_names(self) -> tuple[str, ...]:
        """What it logs, not necessarily at the first validation."""
        return tuple(f"val/{key}" for score in self.scores for key in DISTRIBUTION[score].keys)

    def state_dict(self) -> dict[str, Any]:
        """Return the count of validations, so that a resumed run keeps the cadence."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the count of validations."""
        self._validations = checked_state(state_dict, {"validations": int}, "evaluation")["validations"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what could not be scored, before time is spent on training."""
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by `Trainer.fit`
        if not isinstance(pl_module, Generator) or not isinstance(data, ImageDataModule):
            raise UserError(f"A {type(pl_module).__name__} makes no samples to score.", "Leave the callback out.")
        if data.spec.task != "generation":
            raise UserError(f"Data of the task {data.spec.task} has no single images.", "Leave the callback out.")
        self._judge(trainer).check(reference_of(data, self.part, self.num).images)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sample, score and log; all processes come here together."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validations += 1
        if self._validations % self.every_n_validations:
            return
        began = time.perf_counter()
        assert isinstance(pl_module, ImageModel)
        reference = reference_of(trainer.datamodule, self.part, self.num)  # type: ignore[attr-defined]
        fake = samples_like(reference.images, pl_module)
        section = score_set(self._judge(trainer), fake, reference, self.scores, with_floor=False).section
        values = {f"val/{key}": value for key, value in section.scores.items()}
        pl_module.log_dict(values, logger=False)  # equal in all processes: the features are exchanged
        log_metrics(trainer, {**values, "val/evaluation_seconds": time.perf_counter() - began})

    def _judge(self, trainer: pl.Trainer) -> Judge:
        finished: dict[str, int] = {}

        def progress(what: str, total: int, done: int) -> None:
            finished[what] = finished.get(what, 0) + done
            if isinstance(trainer.progress_bar_callback, Progress):
                trainer.progress_bar_callback.say(f"scoring {what}, {finished[what]} of {total}")

        extractor = self.extractor.to(trainer.strategy.root_device)
        return Judge(extractor, None, progress, trainer.global_rank, trainer.world_size)
