"""What a model makes of a batch of data, by its capabilities.

Shapes: B batch, C channels, H and W height and width in pixels, K classes, D features.
"""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

from torch import Tensor

from aigc_lightning.core.capabilities import CONDITIONS, Classifier, Editor, Embedder, Generator, takes
from aigc_lightning.core.chunks import sampled
from aigc_lightning.errors import UserError

#: The field of a batch that is given for an argument of `edit`.
_FIELDS = {"masks": "mask", "references": "reference", "prompts": "caption"}
#: The keys of images that a model edits, in the order in which they are looked for.
_INPUTS = ("degraded", "source", "image_a", "image")


def input_key(batch: Mapping[str, Any]) -> str:
    """Return the key of the images that a model edits."""
    return next(key for key in _INPUTS if key in batch)


def edited(model: Any, batch: Mapping[str, Any], key: str | None = None, **options: Any) -> Tensor:
    """Return the images of a batch, edited with the batch's masks, references and captions if the model takes them.

    Args:
        model: an `ImageModel` that edits.
        batch: with images; on any device.
        key: of the images; by default the one that the task implies.
        **options: of the model's own `edit`.

    Returns:
        (B, C, H, W) in [-1, 1].

    Raises:
        UserError: the model needs a field that the batch does not have.
    """
    given = {name: batch[field] for name, field in _FIELDS.items() if takes(model.edit, name) and field in batch}
    for name, field in _FIELDS.items():
        parameter = signature(model.edit).parameters.get(name)
        if parameter is not None and parameter.default is Parameter.empty and name not in given:
            what = f"{type(model).__name__} needs {CONDITIONS['edit'][name].removeprefix('--')}s to edit."
            raise UserError(what, f"Choose data whose batches have {field!r}.")
    moved = {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in given.items()}
    images: Tensor = model.edit(batch[key or input_key(batch)].to(model.device), **moved, **options)
    return images


def predicted(model: Any, batch: Mapping[str, Any]) -> Tensor | None:
    """Return what a model predicts for a batch.

    Data for generation is sampled from, other data is edited, if the model can do that; what does neither classifies or
    embeds. Samples have their indices as seeds and show the captions of the batch if the model takes prompts.

    Args:
        model: an `ImageModel`.
        batch: with `index`.

    Returns:
        Images (B, C, H, W) in [-1, 1], logits (B, K) or vectors (B, D); None for a model without any capability.
    """
    edits = model.spec.task != "generation" and isinstance(model, Editor)
    if isinstance(model, Generator) and not edits:
        prompts = batch.get("caption") if takes(model.sample, "prompts") else None
        return sampled(model, batch["index"].tolist(), prompts=prompts)
    if isinstance(model, Editor):
        return edited(model, batch)
    if isinstance(model, Classifier):
        return model.classify(batch[input_key(batch)])
    return model.embed(batch[input_key(batch)]) if isinstance(model, Embedder) else None
