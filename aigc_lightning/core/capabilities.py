"""What a model can do for its users. Commands and callbacks check for a capability, never for a class."""

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Any, Literal, Protocol, get_origin, runtime_checkable

from torch import Tensor


@runtime_checkable
class Generator(Protocol):
    """Generates images from seeds.

    A class-conditional model has an argument `labels`. Keyword-only arguments with a default become options of the
    commands, see `method_options`.
    """

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image per seed, float (B, C, H, W) in [-1, 1], from the averaged weights if the model keeps any.

        An image depends on its own seed only. The model's mode and the global random state are left unchanged.
        """
        ...


@runtime_checkable
class LatentGenerator(Generator, Protocol):
    """Generates images from points of a latent space in which one can interpolate.

    A model with several spaces lists them in a class attribute `spaces`, the standard normal one first. Its `latents`
    then takes `labels` and `space`, and its `decode` takes `space`. Interpolation follows arcs in the first space and
    straight lines in the others. Keyword-only arguments of `decode` become options, see `method_options`.
    """

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, float (B, Z), standard normal; `decode` maps it to the image of `sample`."""
        ...

    def decode(self, latents: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return images, float (B, C, H, W) in [-1, 1], decoded from latents (B, Z).

        Args:
            latents: on any device.
            labels: the class of each image if the model is class-conditional; class 0 by default.
        """
        ...


@runtime_checkable
class Editor(Protocol):
    """Edits or translates images.

    Images have the height and width of the model's spec or, if the model has an attribute `size_multiple` (int), any
    multiples of that number. A model that can produce variants of a result has an optional argument `seeds`, one per
    image; one that edits in two directions has an argument `direction`, "AtoB" or "BtoA".
    """

    def edit(self, images: Tensor) -> Tensor:
        """Return edited images, float (B, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Embeds images as vectors."""

    def embed(self, images: Tensor) -> Tensor:
        """Return one vector per image, float (B, D)."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Classifies images."""

    def classify(self, images: Tensor) -> Tensor:
        """Return logits (B, K) over the spec's class names."""
        ...


CAPABILITIES: dict[str, type] = {"sample": Generator, "edit": Editor, "embed": Embedder, "classify": Classifier}


def capabilities(model: object) -> list[str]:
    """Return the names of the capabilities of a model or model class, such as ["sample", "edit"]."""
    return [name for name in CAPABILITIES if callable(getattr(model, name, None))]


def num_sampled_classes(model: object) -> int:
    """Return K, the number of classes that a model generates on request; 0 for a model that takes no labels."""
    sample = getattr(model, "sample", None)
    takes_labels = sample is not None and "labels" in signature(sample).parameters
    return int(getattr(model, "num_classes", 0)) if takes_labels else 0


def latent_spaces(model: object) -> tuple[str, ...]:
    """Return the names of a model's latent spaces, the default first; empty if there is only one."""
    return tuple(getattr(model, "spaces", ()))


def method_options(method: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the options, by name, that a model declares for the commands that call a method.

    These are the keyword-only arguments with a default whose type is bool, int, float, str or a `Literal`: a `sample`
    with `*, trunc: float = 1.0` gives `aigc sample RUN --trunc 0.7`.
    """
    try:
        known = signature(method, eval_str=True).parameters
    except NameError:  # types imported for type checkers only
        known = signature(method).parameters
    return {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
        and parameter.default is not Parameter.empty
        and (parameter.annotation in (bool, int, float, str) or get_origin(parameter.annotation) is Literal)
    }


def size_multiple(editor: Editor) -> int | None:
    """Return the number that an editor's heights and widths must be multiples of; None if its spec fixes both."""
    return getattr(editor, "size_multiple", None)
