"""Description of a dataset's images, provided by the data and read by the model."""

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

    Raises:
        UserError: the numbers do not describe an image.
    """

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...] = ()
    task: str = "generation"

    def __post_init__(self) -> None:
        if self.channels not in CHANNEL_NAMES:
            raise UserError(f"Images have {self.channels} channels.", "Use 1 (grey), 3 (RGB) or 4 (RGBA).")
        if not (1 <= self.height <= _LARGEST and 1 <= self.width <= _LARGEST):
            raise UserError(
                f"Images are {self.height}x{self.width} pixels.", f"Give a height and width from 1 to {_LARGEST}."
            )
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
        """Return a readable form: `32x32 grey, 10 classes`."""
        classes = f", {self.num_classes} classes" if self.class_names else ""
        return f"{self.height}x{self.width} {CHANNEL_NAMES[self.channels]}{classes}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {**asdict(self), "class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageSpec":
        """Rebuild a spec from the result of `to_dict`."""
        return cls(**{**values, "class_names": tuple(values.get("class_names", ()))})
