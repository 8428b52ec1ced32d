"""Description of a dataset's images, provided by the data and read by the model."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aigc_lightning.errors import UserError

_LARGEST = 2**16
CHANNEL_NAMES = {1: "grey", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class ImageSpec:
    """Shape and meaning of a dataset's images.

    Args:
        channels: C, one of 1 (grey), 3 (RGB) or 4 (RGBA).
        height: H in pixels.
        width: W in pixels.
        class_names: the name of each label in order; empty if the images have no labels.
        task: which keys a batch has: "generation" (`image`, perhaps `label` and `caption`), "paired" (`source`,
            `target`), "unpaired" (`image_a`, `image_b`) or "restoration" (`image`, `degraded`).
        captions: whether each sample has a text, `caption`.
        masks: whether each sample has a `mask`.
        scale: size of the target divided by that of the source, for super-resolution; 1 where both have one size.

    Raises:
        UserError: the numbers do not describe an image.

    Examples:
        >>> spec = ImageSpec(1, 28, 28, class_names=("cat", "dog"))
        >>> spec.shape, spec.num_classes
        ((1, 28, 28), 2)
    """

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...] = ()
    task: str = "generation"
    captions: bool = False
    masks: bool = False
    scale: int | float = 1

    def __post_init__(self) -> None:
        if self.channels not in CHANNEL_NAMES:
            raise UserError(f"Images have {self.channels} channels.", "Use 1 (grey), 3 (RGB) or 4 (RGBA).")
        if not (1 <= self.height <= _LARGEST and 1 <= self.width <= _LARGEST):
            raise UserError(
                f"Images are {self.height}x{self.width} pixels.", f"Give a height and width from 1 to {_LARGEST}."
            )
        if not 0 < self.scale < math.inf:
            raise UserError(f"Targets are {self.scale} times as large as their sources.", "Give a number above 0.")
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @property
    def num_classes(self) -> int:
        """Number of labels; 0 for images without labels."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    def __str__(self) -> str:
        """Return a readable form: `32x32 grey, 10 classes, captions`."""
        parts = {
            f"{self.height}x{self.width} {CHANNEL_NAMES[self.channels]}": True,
            f"{self.num_classes} classes": self.num_classes > 0,
            "captions": self.captions,
            "masks": self.masks,
            f"scale {self.scale:g}": self.scale != 1,
        }
        return ", ".join(part for part, applies in parts.items() if applies)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {**asdict(self), "class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageSpec":
        """Rebuild a spec from the result of `to_dict`."""
        return cls(**{**values, "class_names": tuple(values.get("class_names", ()))})
