"""The batches that data modules hand to models, with the field's names as keys.

Images are float tensors (B, C, H, W) in [-1, 1]; masks are float tensors (B, 1, H, W) of 0 and 1; labels and indices
are int64 tensors (B,).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from torch import Tensor

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

#: The image keys of a batch, by task.
IMAGE_KEYS: dict[str, tuple[str, ...]] = {
    "generation": ("image",),
    "paired": ("source", "target"),
    "unpaired": ("image_a", "image_b"),
    "restoration": ("image", "degraded"),
}

#: What training batches of encoded images (`aigc data encode`) have for `image`, one of them.
ENCODED_KEYS = ("latent", "tokens")
#: Grey level from which a pixel of a mask counts as 1.
MASK_THRESHOLD = 128
#: What a field of a batch is, which decides how it is augmented, resized and converted.
FieldKind = Literal["image", "mask", "label_map", "text", "vector"]
#: The kind of each field with a fixed name; a `FieldSource` names the kinds of further ones in its attribute `kinds`.
FIELD_KINDS: dict[str, FieldKind] = {
    **{key: "image" for keys in IMAGE_KEYS.values() for key in keys},
    "reference": "image",
    "mask": "mask",
    "label_map": "label_map",
    "caption": "text",
    "label": "vector",
    "index": "vector",
    "latent": "vector",
    "tokens": "vector",
}


class ImageBatch(TypedDict):
    """Images for generation, recognition or retrieval.

    Training batches of encoded images (`aigc data encode`) have for `image` either `latent`, float (B, D, h, w) or
    (B, D), or the `tokens` of a tokenizer, int64 (B, N).
    """

    image: Tensor  # (B, C, H, W) in [-1, 1]
    index: Tensor  # (B,) the sample's number in the dataset
    label: NotRequired[Tensor]  # (B,) int64
    caption: NotRequired[list[str]]
    mask: NotRequired[Tensor]  # (B, 1, H, W) 1 in the region that the caption or label is about


class PairedBatch(TypedDict):
    """Aligned pairs for translation."""

    source: Tensor  # (B, C, H, W) in [-1, 1]
    target: Tensor  # (B, C, H, W) in [-1, 1]
    index: Tensor


class UnpairedBatch(TypedDict):
    """Two domains without correspondence."""

    image_a: Tensor  # (B, C, H, W) in [-1, 1]
    image_b: Tensor  # (B, C, H, W) in [-1, 1]
    index: Tensor


class RestorationBatch(TypedDict):
    """Clean images with their degraded versions."""

    image: Tensor  # (B, C, H, W) in [-1, 1]
    degraded: Tensor  # (B, C, h, w) in [-1, 1]
    index: Tensor
    mask: NotRequired[Tensor]  # (B, 1, H, W) 1 where pixels are missing
    caption: NotRequired[list[str]]


class _Need(NamedTuple):
    """A field that models may need: how a spec says that it is there, how to describe it, and where to find it."""

    is_met: Callable[[ImageSpec], bool]
    form: str
    hint: str


#: The fields that a model can name in its class attribute `needs`.
_NEEDS = {
    "label": _Need(
        lambda spec: bool(spec.class_names),
        "int64 (B,)",
        "Choose data with classes; a folder of images has classes if it has two or more sub-folders of images.",
    ),
    "caption": _Need(
        lambda spec: spec.captions, "list of B texts", "Choose data with captions, such as shapes or captioned_images."
    ),
    "mask": _Need(
        lambda spec: spec.masks,
        "(B, 1, H, W) of 0 and 1",
        'Choose data whose batches have `mask` and whose spec says `masks=True`; docs/data.md, "Your own data".',
    ),
}


def check_needs(model: str, needs: Sequence[str], spec: ImageSpec) -> None:
    """Check that data has the fields that a model cannot do without.

    Args:
        model: the name of the model's class.
        needs: names from "label", "caption" and "mask".
        spec: what the data has.

    Raises:
        UserError: a field is missing; the message names what the model needs and what the data has.
        TypeError: there is no such field.
    """
    for name in needs:
        if name not in _NEEDS:
            raise TypeError(f"{model}.needs names {name!r}; it may name {', '.join(_NEEDS)}.")
        if not _NEEDS[name].is_met(spec):
            raise UserError(
                f"{model} needs a {name} with every image, but the data has none ({spec}, {spec.task}).",
                _NEEDS[name].hint,
            )


def check_batch(batch: Any, spec: ImageSpec, needs: Sequence[str] = (), encoded: Sequence[str] = ()) -> None:
    """Check that a loader, which may be third-party, yields a dict with the expected images and other fields.

    Args:
        batch: what the loader yields.
        spec: what the model was built for.
        needs: the other fields that the model needs.
        encoded: which of `ENCODED_KEYS` the model takes as well as `image`.

    Raises:
        UserError: something is missing; the message describes a valid batch.
    """
    wanted = (*IMAGE_KEYS[spec.task], *needs)
    if isinstance(batch, Mapping) and any(key in batch for key in encoded):
        wanted = tuple(needs)
    if isinstance(batch, Mapping) and all(key in batch for key in wanted):
        return
    entries = [f'"{key}": (B, {", ".join(map(str, spec.shape))}) in [-1, 1]' for key in IMAGE_KEYS[spec.task]]
    entries += ['"label": int64 (B,)'] if spec.class_names and "label" not in needs else []
    entries += [f'"{key}": {_NEEDS[key].form}' for key in needs]
    raise UserError(
        f"A batch of the data is {_described(batch)}, but the model takes a dict with {' and '.join(wanted)}.",
        f'Give {{{", ".join(entries)}, "index": int64 (B,)}}, e.g. by a collate_fn; docs/data.md, "Data of your own".',
    )


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a dict with {', '.join(map(str, batch)) or 'nothing in it'}"
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return f"a {type(batch).__name__} of {', '.join(type(part).__name__ for part in batch[:4]) or 'nothing'}"
    return f"a {type(batch).__name__}"


def batch_size(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first tensor or list."""
    values = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else [batch]
    return next(len(value) for value in values if isinstance(value, Tensor | list) and not _is_scalar(value))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0
