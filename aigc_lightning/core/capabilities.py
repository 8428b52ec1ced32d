"""What a model can do for its users. Commands and callbacks ask for a capability, never for a class."""

from collections.abc import Sequence
from inspect import signature
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
class LatentGenerator(Generator, Protocol):
    """Makes images from points of a latent space, between which one can walk."""

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, float (B, Z), standard normal; `decode` makes of it what `sample` shows."""
        ...

    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return images, float (B, C, H, W) in [-1, 1], of latents (B, Z).

        Args:
            latents: on any device.
            labels: the class of each image where the model has classes; class 0 when left out.
        """
        ...


@runtime_checkable
class Editor(Protocol):
    """Turns images into images.

    Images have the height and width of the model's spec, or, where the model has an attribute `size_multiple` (int),
    any multiples of this number. A model that makes variants of a result has an argument `seeds`, one an image, which
    may be left out; one that edits in two directions has an argument `direction`, "AtoB" or "BtoA".
    """

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


def num_sampled_classes(model: object) -> int:
    """Return K, the classes by which a model makes images on request; 0 for a model that takes no labels."""
    sample = getattr(model, "sample", None)
    takes_labels = sample is not None and "labels" in signature(sample).parameters
    return int(getattr(model, "num_classes", 0)) if takes_labels else 0


def size_multiple(editor: Editor) -> int | None:
    """Return the number of which an editor's heights and widths are multiples, None where its spec says both."""
    return getattr(editor, "size_multiple", None)
