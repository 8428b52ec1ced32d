"""The batches that data hands to models, by the field's names.

Images are float tensors (B, C, H, W) in [-1, 1]; labels and indices are int64 tensors (B,).
"""

from typing import NotRequired, TypedDict

from torch import Tensor

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
