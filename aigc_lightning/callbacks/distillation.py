"""Distillation: a model learns, besides its own task, to give the answers of a trained one.

Papers: Hinton, Vinyals, Dean, 2015, https://arxiv.org/abs/1503.02531 (classifiers: softened class probabilities);
Aguinaldo et al., 2019, https://arxiv.org/abs/1902.00159 (generators: the teacher's image of the same latent, beside the
adversarial loss, which keeps images sharp).
Departures from the papers: the student begins with the strongest channels of the teacher, where it has such layers.
Shapes: B batch, C channels, H and W height and width in pixels, K classes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from aigc_lightning.callbacks.private_training import PrivateTraining
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.capabilities import Classifier, Editor, LatentGenerator, num_sampled_classes, takes
from aigc_lightning.core.component import Component, load_component, refer
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.narrowing.narrowed import begin_with
from aigc_lightning.core.predictions import edited, input_key
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.log import say
from aigc_lightning.errors import UserError
from aigc_lightning.losses.distillation import soft_targets
from aigc_lightning.losses.reconstruction import absolute

#: Inputs of a batch for the two directions of a model that translates both ways.
_DIRECTIONS = {"AtoB": "image_a", "BtoA": "image_b"}


@dataclass(frozen=True)
class Distillation:
    """Learning from a teacher; off by default.

    Args:
        teacher: a run, a checkpoint or the address of a file; None learns from the data alone.
        weight: of the difference from the teacher's answers, beside the model's own loss.
        temperature: that softens the class probabilities of classifiers.

    Raises:
        UserError: a value is out of range, or acts on nothing.
    """

    teacher: str | None = None
    weight: float | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "temperature"):
            value = getattr(self, name)
            if value is not None and self.teacher is None:
                raise UserError(f"distill.{name} is given without distill.teacher.", "Add --distill.teacher RUN.")
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"distill.{name} is {value}.", "Give a positive number.")


class LearnFromTeacher(pl.Callback):
    """Adds to the loss of a model how far its answers are from a teacher's.

    Checkpoints hold the student alone, as a model of its own class: the teacher is referred to by the hash of its
    weights. Which answers are compared follows from what both can do: edits of the batch, images of random latents, or
    the class probabilities of the batch.

    Args:
        settings: with a teacher.
    """

    def __init__(self, settings: Distillation) -> None:
        assert settings.teacher is not None
        self.settings, self.address = settings, settings.teacher
        self.weight = 1.0 if settings.weight is None else settings.weight
        self.temperature = 4.0 if settings.temperature is None else settings.temperature
        self._teacher: ImageModel | None = None
        self._difference: Callable[[Any, Any, Any], Tensor] | None = None
        self._batch: Any = None
        self._waiting: set[str] = set()  # players that have not yet been updated in this step

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Load the teacher, and let a new student begin with its weights.

        Raises:
            UserError: the teacher does not fit the student, or cannot be learnt from.
        """
        if stage != "fit":
            return
        assert isinstance(pl_module, ImageModel)
        if any(isinstance(callback, PrivateTraining) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError("privacy.epsilon does not cover what a teacher knows of the images.", "Leave one out.")
        component = load_component(self.address)
        self._difference = self._chosen(pl_module, component)
        refer(pl_module, "teacher", self.address, component.sha256)
        if trainer.ckpt_path is None:
            others = begin_with(pl_module, component.model)
            say(
                f"The model begins with weights of {self.address}"
                + (f", except its {', '.join(others)}." if others else ".")
            )
        self._teacher = component.model

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the teacher to the student's device."""
        assert self._teacher is not None
        self._teacher.to(pl_module.device)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the steps, whatever else has by now."""
        model: Any = pl_module
        # As in micro-batches: partials, unlike closures, are copied with the model.
        if isinstance(pl_module, AdversarialModel):
            model.adversarial_step = partial(self._adversarial_step, model, model.adversarial_step)
            model.update = partial(self._update, model, model.update)
        else:
            step: Any = partial(self._training_step, model, model.training_step)
            step.__wrapped__ = type(pl_module).training_step  # Lightning looks at its signature
            model.training_step = step

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the settings into the record."""
        checkpoint.setdefault(RECORD_KEY, {})["distill"] = asdict(self.settings)

    # ---- the steps

    def _training_step(self, model: Any, own: Callable[..., Any], batch: Any, *rest: Any) -> Any:
        loss = own(batch, *rest)
        if loss is None:  # the model skips the batch
            return None
        added = self._loss(model, batch) * model.share
        return {**loss, "loss": loss["loss"] + added} if isinstance(loss, dict) else loss + added

    def _adversarial_step(self, model: Any, own: Callable[[Any], None], batch: Any) -> None:
        self._batch, self._waiting = batch, set(model.averaged_networks)
        own(batch)

    def _update(
        self, model: Any, own: Callable[..., None], player: str, loss: Callable[[], Tensor], **options: Any
    ) -> None:
        """Add the difference to the first loss of each network that is used once training is over."""
        if player not in self._waiting:
            own(player, loss, **options)
            return
        self._waiting.remove(player)
        own(player, lambda: loss() + self._loss(model, self._batch), **options)

    def _loss(self, model: Any, batch: Any) -> Tensor:
        assert self._difference is not None
        with model.differentiable():
            value = self._difference(model, self._teacher, batch)
        model.record("distillation_loss", value)
        return self.weight * value

    # ---- what is compared

    def _chosen(self, model: ImageModel, component: Component) -> Callable[[Any, Any, Any], Tensor]:
        """Return how the answers of a student and its teacher are compared.

        Raises:
            UserError: they work on different data, or have no such answers in common.
        """
        teacher = component.model
        names = f"the {type(teacher).__name__} in {self.address}"
        if teacher.spec != model.spec:
            theirs, ours = (f"{spec} for {spec.task}" for spec in (teacher.spec, model.spec))
            raise UserError(
                f"distill.teacher, {names}, was trained on {theirs}, but the data is {ours}.",
                "Choose the data that the teacher was trained on, with the same options.",
            )
        both: tuple[Any, Any] = (model, teacher)
        if all(isinstance(one, Editor) for one in both) and model.spec.task != "generation":
            return _edits
        if all(isinstance(one, LatentGenerator) and not hasattr(one, "network_evaluations") for one in both):
            sizes = [one.latents([0]).shape[1:] for one in both]
            if sizes[0] != sizes[1] or num_sampled_classes(model) != num_sampled_classes(teacher):
                what = f"{names} makes images of other latents or classes than this {type(model).__name__}"
                raise UserError(f"distill.teacher, {what}.", "Give both the same latent size and conditioning.")
            return _samples
        if all(isinstance(one, Editor) for one in both):
            return _edits
        if all(isinstance(one, Classifier) for one in both):
            return partial(_classes, self.temperature)
        raise UserError(
            f"A {type(model).__name__} cannot learn from distill.teacher, {names}: both have to edit, to classify, "
            "or to make images of latents in one pass.",
            "Choose a teacher of the same kind; models of many steps are not distilled.",
        )


def distilling(settings: Distillation) -> list[pl.Callback]:
    """Return the callback that lets a model learn from a teacher; none without a teacher."""
    return [] if settings.teacher is None else [LearnFromTeacher(settings)]


def _edits(student: Any, teacher: Any, batch: Any) -> Tensor:
    """Return the mean absolute difference between edits of a batch, in both directions where there are two."""
    if not takes(student.edit, "direction"):
        return absolute(edited(student, batch).float(), edited(teacher, batch).float()).mean()
    ways = [
        absolute(*(edited(one, batch, key, direction=way).float() for one in (student, teacher))).mean()
        for way, key in _DIRECTIONS.items()
    ]
    return torch.stack(ways).mean()


def _samples(student: Any, teacher: Any, batch: Any) -> Tensor:
    """Return the mean absolute difference between images of the same random latents and the batch's classes."""
    num = len(batch["index"])
    latents = student.noise(num, *student.latents([0]).shape[1:])
    labels = batch["label"] if num_sampled_classes(student) else None
    wanted, found = teacher.decode(latents, labels), student.decode(latents, labels)
    return absolute(found.float(), wanted.float()).mean()


def _classes(temperature: float, student: Any, teacher: Any, batch: Any) -> Tensor:
    """Return the difference between softened class probabilities of a batch."""
    images = batch[input_key(batch)]
    return soft_targets(student.classify(images).float(), teacher.classify(images).float(), temperature)
