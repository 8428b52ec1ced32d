"""What a model can do for its users. Commands and callbacks ask for a capability, never for a class."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Generator(Protocol):
    """Makes images from seeds."""

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image a seed, float (B, C, H, W) in [-1, 1], from the averaged weights where there are any.

        An image depends on its own seed alone. The model's mode and the global random state are left as they were.
        """
        ...


@runtime_checkable
class Editor(Protocol):
    """Turns images into images."""

    def edit(self, images: Tensor) -> Tensor:
        """Return edited images, float (B, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Describes images by vectors."""

    def embed(self, images: Tensor) -> Tensor:
        """Return one vector an image, float (B, D)."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Names what images show."""

    def classify(self, images: Tensor) -> Tensor:
        """Return logits (B, K) over the spec's class names."""
        ...


CAPABILITIES: dict[str, type] = {"sample": Generator, "edit": Editor, "embed": Embedder, "classify": Classifier}


def capabilities(model: object) -> list[str]:
    """Return the names of what a model or model class can do, such as ["sample", "edit"]."""
    return [name for name in CAPABILITIES if callable(getattr(model, name, None))]
