"""The stage `predict`: whether a model predicts at all, and where its predictions are."""

from pathlib import Path

from lightning.pytorch import Trainer

from aigc_lightning.callbacks.predictions import PREDICTIONS, Predictions
from aigc_lightning.core.capabilities import capabilities
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

#: Capabilities that `ImageModel.predict_step` uses.
_PREDICTS = ("sample", "edit", "classify", "embed")


def check_predicts(model: ImageModel) -> None:
    """Check that a model can predict something.

    Raises:
        UserError: it has neither a `predict_step` of its own nor a capability to predict with.
    """
    if type(model).predict_step is ImageModel.predict_step and not {*_PREDICTS} & {*capabilities(model)}:
        raise UserError(
            f"{type(model).__name__} predicts nothing: it can neither sample, edit, classify nor embed.",
            "Use another model; `aigc plugins show NAME` says what a model can do.",
        )


def say_predictions(trainer: Trainer, model: ImageModel, folder: Path) -> None:
    """Print where the predictions of a run are.

    Raises:
        UserError: nothing was written.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by a helper of the trainer
    if not any(callback.written for callback in callbacks if isinstance(callback, Predictions)):
        raise UserError(
            f"{type(model).__name__} predicted nothing that can be written.",
            "Its predict_step must return images (B, C, H, W), logits (B, K) or vectors (B, D).",
        )
    echo(f"Predictions: {folder / PREDICTIONS}")
