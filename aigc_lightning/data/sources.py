"""Where samples come from: numbered images, or samples with several fields, and what each field is."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aigc_lightning.core.batch import FIELD_KINDS, MASK_THRESHOLD, FieldKind


class Visits(NamedTuple):
    """Visits to samples, one per sample of a batch; everything random about a batch is a function of them.

    Attributes:
        seed: seed of the run; 0 for held-out images.
        epochs: int64 (B,) number of earlier visits to each sample; 0 for held-out images.
        indices: int64 (B,) number of each sample in the dataset.
    """

    seed: int
    epochs: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]


class ImageSource(Protocol):
    """Numbered images of one size, in memory or in files."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W)."""
        ...

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None if there are none."""
        ...


@runtime_checkable
class FieldSource(Protocol):
    """Numbered samples with several images each, or with more than labels.

    The names of fields say what they are (`core.batch.FIELD_KINDS`); a source with further fields names their kinds in
    an attribute `kinds`, such as {"trimap": "label_map"}. Otherwise uint8 tensors (B, C, H, W) are images.
    """

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return the samples by batch key.

        Images are uint8 (B, C, H, W); masks (B, 1, H, W), uint8 with 0 and 255, bool, or float with 0 and 1; label maps
        (B, 1, H, W) of integers. Other fields are handed on unchanged.
        """
        ...

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None if there are none."""
        ...


class ArraySource:
    """Images that fit in memory.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), or None.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None) -> None:
        assert images.dtype == torch.uint8 and images.ndim == 4
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        """Return N."""
        return len(self._images)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W)."""
        # Not by indexing, which copies byte by byte and takes twenty times as long.
        return self._images.index_select(0, torch.as_tensor(indices, dtype=torch.int64))

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return their labels, int64 (B,), or None."""
        return None if self._labels is None else self._labels[torch.as_tensor(indices)]


def to_signed(images: Tensor) -> Tensor:
    """Map uint8 [0, 255] to float32 [-1, 1]; 0 and 255 are exact."""
    return images.float().div_(127.5).sub_(1)


def read_fields(source: ImageSource | FieldSource, visits: Visits) -> dict[str, Any]:
    """Return samples of any source by batch key, with images as uint8 (B, C, H, W), not augmented."""
    indices = visits.indices.tolist()
    # Not `isinstance`, which checks every method of the protocol for every batch.
    has_fields = hasattr(source, "fields")
    fields = (
        cast(FieldSource, source).fields(visits) if has_fields else {"image": cast(ImageSource, source).images(indices)}
    )
    labels = source.labels(indices)
    return fields if labels is None else {**fields, "label": labels}


def field_kind(source: ImageSource | FieldSource, name: str, field: Any) -> FieldKind:
    """Return what a field of a source's samples is: by its name or, for names of the source's own, by what it says.

    Raises:
        TypeError: a mask or label map is not a tensor (B, 1, H, W).
    """
    known: FieldKind | None = FIELD_KINDS.get(name) or getattr(source, "kinds", {}).get(name)
    if known in ("mask", "label_map"):
        if not isinstance(field, Tensor) or field.ndim != 4:
            raise TypeError(f"The {known.replace('_', ' ')} {name!r} of a source must be a tensor (B, 1, H, W).")
        return known
    if isinstance(field, Tensor):
        return "image" if field.dtype == torch.uint8 and field.ndim == 4 else "vector"
    return known or "text"


def to_batch(field: Any, kind: FieldKind) -> Any:
    """Return a field of a source as models get it: images in [-1, 1], masks of 0 and 1, label maps as int64."""
    if kind == "image":
        return to_signed(field)
    if kind == "mask":
        return (field >= MASK_THRESHOLD).float() if field.dtype == torch.uint8 else field.float()
    return field.long() if kind == "label_map" else field
