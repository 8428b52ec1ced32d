"""Settings of the engine that do not act on a model."""

from dataclasses import fields
from typing import Any

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.memory.settings import MemorySettings
from aigc_lightning.errors import UserError

#: Settings that models with one optimizer have elsewhere.
_ELSEWHERE = {
    "clip_norm": "Use --trainer.gradient_clip_val {}.",
    "augment": "Augment the data instead: --data.augmentation.",
}


def check_engine(engine: Engine, model: ImageModel) -> None:
    """Refuse settings of the engine that do not act on a model.

    Raises:
        UserError: one is given; the message says what to use instead.
    """
    if isinstance(model, AdversarialModel):
        return
    name = type(model).__name__
    default: dict[str, Any] = {item.name: item.default for item in fields(Engine)}
    for setting, nothing in default.items():
        value = getattr(engine, setting)
        if value == nothing:
            continue
        if setting not in {item.name for item in fields(MemorySettings)}:
            raise UserError(
                f"engine.{setting} acts on networks that are trained against each other, and {name} has none.",
                _ELSEWHERE.get(setting, "Leave it out.").format(value),
            )
        if setting == "micro_batches" and not model.automatic_optimization:
            raise UserError(
                f"engine.micro_batches is {value}, but {name} takes its optimizers' steps itself.",
                "Leave it out, and use a smaller --data.batch_size.",
            )
