"""What a model can do for its users. Commands and callbacks ask for a capability, never for a class."""

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Any, Literal, Protocol, get_origin, runtime_checkable

from torch import Tensor


@runtime_checkable
class Generator(Protocol):
    """Makes images from seeds.

    A model that makes them by class has an argument `labels`. Keyword-only arguments with a default become options of
    the commands, see `method_options`.
    """

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image a seed, float (B, C, H, W) in [-1, 1], from the averaged weights where there are any.

        An image depends on its own seed alone. The model's mode and the global random state are left as they were.
        """
        ...


@runtime_checkable
class LatentGenerator(Generator, Protocol):
    """Makes images from points of a latent space, between which one can walk.

    A model with further spaces names all of them in a class attribute `spaces`, the one of standard normal points
    first. Its `latents` then takes `labels` and `space`, and its `decode` takes `space`. One walks on arcs in the first
    space and straight in the others. Keyword-only arguments of `decode` become options, see `method_options`.
    """

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


def latent_spaces(model: object) -> tuple[str, ...]:
    """Return the names of the spaces in which one can walk, the default first; none for a model that has no choice."""
    return tuple(getattr(model, "spaces", ()))


def method_options(method: Callable[..., Any]) -> dict[str, Parameter]:
    """Return what a model declares as options of the commands that call a method, by name.

    These are the keyword-only arguments with a default whose type is bool, int, float, str or a `Literal`: a `sample`
    with `*, trunc: float = 1.0` gives `aigc sample RUN --trunc 0.7`.
    """
    try:
        known = signature(method, eval_str=True).parameters
    except NameError:  # types that are there for type checkers alone
        known = signature(method).parameters
    return {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
        and parameter.default is not Parameter.empty
        and (parameter.annotation in (bool, int, float, str) or get_origin(parameter.annotation) is Literal)
    }


def size_multiple(editor: Editor) -> int | None:
    """Return the number of which an editor's heights and widths are multiples, None where its spec says both."""
    return getattr(editor, "size_multiple", None)
