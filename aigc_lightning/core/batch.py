"""The batches that data modules hand to models, with the field's names as keys.

Images are float tensors (B, C, H, W) in [-1, 1]; labels and indices are int64 tensors (B,).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

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


class ImageBatch(TypedDict):
    """Images for generation, recognition or retrieval."""

    image: Tensor  # (B, C, H, W) in [-1, 1]
    index: Tensor  # (B,) the sample's number in the dataset
    label: NotRequired[Tensor]  # (B,) int64
    caption: NotRequired[list[str]]


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


def check_batch(batch: Any, spec: ImageSpec) -> None:
    """Check that a loader, which may be third-party, yields a dict with the expected images.

    Raises:
        UserError: it does not; the message describes a valid batch.
    """
    wanted = IMAGE_KEYS[spec.task]
    if isinstance(batch, Mapping) and all(key in batch for key in wanted):
        return
    entries = [f'"{key}": (B, {", ".join(map(str, spec.shape))}) in [-1, 1]' for key in wanted]
    entries += ['"label": int64 (B,)'] if spec.class_names else []
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
