"""What a model can do for its users. Commands and callbacks check for a capability, never for a class."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, Literal, Protocol, TypeGuard, get_args, runtime_checkable

from torch import Tensor

from aigc_lightning.core.attention import AttentionModel


@runtime_checkable
class Generator(Protocol):
    """Generates images from seeds.

    A class-conditional model has an argument `labels`, the classes of the spec being what it takes; one that draws what
    a text says has an argument `prompts`. Both hold one item per image, and None by default. Keyword-only arguments
    with another default become options of the commands, see `method_options`.

    A model whose network is evaluated many times for an image, such as a diffusion model, says how often in a method
    `network_evaluations`, which takes the options of `sample` and returns an int (NFE); receipts and pictures state it.
    One whose options can name other runs has a method `named_components`, see `core/method_options.py`.
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
class InvertibleGenerator(LatentGenerator, Protocol):
    """Finds the latents from which it would make given images, so that one can interpolate between real images."""

    def invert(self, images: Tensor, labels: Sequence[int] | None = None) -> Tensor:
        """Return the latents of images (B, C, H, W) in [-1, 1] of the spec's size; `decode` turns them back.

        Args:
            images: on any device.
            labels: as in `decode`; a model with prompts has an argument `prompts` as well.
        """
        ...


@runtime_checkable
class Editor(Protocol):
    """Edits or translates images.

    Images have the height and width of the model's spec or, if the model has an attribute `size_multiple` (int), any
    multiples of that number. Results are as large, or larger by a whole number, which is the model's attribute `scale`.

    What else a model takes it has as arguments, which commands offer under the names in parentheses; all hold one item
    per image, and None by default:

    - `masks` (`--mask`): float (B, 1, H, W), 1 where the image is to be filled and 0 elsewhere;
    - `references` (`--reference`): float (B, C, height, width of the spec) in [-1, 1], images to take something from.
      They have another size if the model has an attribute `reference_size`, (height, width). A model that mixes several
      has `mixes_references = True`, and then also takes (B, R, C, height, width);
    - `prompts` (`--prompt`): texts;
    - `seeds` (`--seed`): each selects a variant of the result;
    - `direction` (`--direction`), one for the whole call: "AtoB" or "BtoA", of a model that edits in both.

    An argument without a default is required. Keyword-only arguments of other names become options, see
    `method_options`.
    """

    def edit(self, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
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


@runtime_checkable
class EmbeddingClassifier(Embedder, Classifier, Protocol):
    """Classifies by its embeddings, so that one pass gives both."""

    def classify_embeddings(self, embeddings: Tensor) -> Tensor:
        """Return the logits (B, K) that `classify` returns for images with these embeddings (B, D) of `embed`."""
        ...


@runtime_checkable
class FirstStage(Protocol):
    """Compresses images to latents in which another model can work, such as a diffusion model.

    Source: Rombach et al., Latent Diffusion Models, CVPR 2022, https://arxiv.org/abs/2112.10752 (section 3.1). Such a
    model serves others as a component (`core/component.py`), and `aigc data encode` encodes whole datasets with it.
    """

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents of images (B, C, H, W) in [-1, 1]: float (B, D, h, w), or vectors (B, D)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] of latents."""
        ...


@runtime_checkable
class Tokenizer(FirstStage, Protocol):
    """Turns images into a few tokens, which are numbers of codes, and back; other models learn to draw the tokens.

    Source: van den Oord et al., Neural Discrete Representation Learning, NIPS 2017, https://arxiv.org/abs/1711.00937.

    Attributes:
        num_codes: K.
    """

    num_codes: int

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens of images (B, C, H, W) in [-1, 1], int64 (B, N), from 0 to K - 1."""
        ...

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] of tokens (B, N)."""
        ...


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
    """Embeds texts in the space in which it embeds images."""

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return one vector per text, float (B, D), with the D of `embed`; each depends on its own text only."""
        ...


#: What the numbers of a `LikelihoodModel` are.
LikelihoodKind = Literal["exact", "estimate", "lower_bound"]


@runtime_checkable
class LikelihoodModel(Protocol):
    """Computes log-likelihoods of 8-bit images.

    Its class attribute `likelihood_kind` says what they are:

    - "exact": the log-probability of the image;
    - "lower_bound": at most that, on average over the noise that is drawn, such as the evidence lower bound (ELBO);
    - "estimate": neither, such as the result of an ODE solver with an estimated divergence.

    What else it takes it has as arguments, one item per image: `labels` and `prompts`, None for the likelihood without
    a condition, and `seeds`, for models that draw noise, 0 for all by default. Keyword-only arguments of other names
    become options of `aigc evaluate`, see `method_options`.
    """

    def log_likelihood(self, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the log-probability of each image in nats, float64 (B,).

        The result for an image depends on the image, its conditions and its seed only. A model of a density in [-1, 1]
        dequantises the images and converts the result, see `losses.dequantisation`.

        Args:
            images: (B, C, H, W) of 256 levels in [-1, 1], of the spec's size.
            *args: conditions.
            **kwargs: conditions and options.

        Raises:
            UserError: the model, built with its options, has no likelihood of such images.
        """
        ...


@runtime_checkable
class Watermarker(Protocol):
    """Writes a payload of a few bits into the pixels of images, and reads it again.

    Attributes:
        payload_bits: number of bits, from 16 to 64.
        false_positive_rate: probability of reading a payload from an image without one, if its bits are read like fair
            coins.
    """

    payload_bits: int
    false_positive_rate: float

    def mark(self, images: Tensor, payload: int) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] with a payload in them.

        Raises:
            UserError: they are too small.
        """
        ...

    def read(self, images: Tensor) -> Sequence[tuple[int | None, float]]:
        """Return for each of the images (B, C, H, W) the payload, None if there is none, and its confidence in [0, 1].

        The confidence is the share of the coded bits that agree with the nearest valid word.
        """
        ...


CAPABILITIES: dict[str, type] = {
    "sample": Generator,
    "edit": Editor,
    "embed": Embedder,
    "classify": Classifier,
    "embed_text": TextEmbedder,
    "log_likelihood": LikelihoodModel,
    "attention_maps": AttentionModel,
    "encode": FirstStage,
    "mark": Watermarker,
}

#: Arguments that commands offer under names of their own, by the method that has them.
CONDITIONS = {
    "sample": {"labels": "--class", "prompts": "--prompt"},
    "decode": {"labels": "--class", "prompts": "--prompt"},
    "edit": {
        "masks": "--mask",
        "references": "--reference",
        "prompts": "--prompt",
        "seeds": "--seed",
        "direction": "--direction",
    },
    "attention_maps": {"labels": "--class", "prompts": "--prompt"},
}


def capabilities(model: object) -> list[str]:
    """Return the names of the capabilities of a model or model class, such as ["sample", "edit"]."""
    return [name for name in CAPABILITIES if callable(getattr(model, name, None))]


def takes(method: Callable[..., Any] | None, argument: str) -> bool:
    """Return whether a method takes an argument of this name; False without a method.

    A model that takes a condition only with some of its options names it in its attribute `without_conditions` if it
    was built without them.
    """
    without = getattr(getattr(method, "__self__", None), "without_conditions", ())
    return method is not None and argument not in without and argument in signature(method).parameters


def makes_images(model: Any) -> TypeGuard[Generator]:
    """Return whether a model makes images from seeds alone; one that was trained on pairs may have `sample` as well."""
    return isinstance(model, Generator) and getattr(getattr(model, "spec", None), "task", "generation") == "generation"


def num_sampled_classes(model: Any) -> int:
    """Return K, the number of classes that a model generates on request; 0 for a model that takes no labels.

    A model whose `sample` takes `labels` (see `takes`) takes the classes of its spec, or those that its attribute
    `num_classes` counts.
    """
    if not takes(getattr(model, "sample", None), "labels"):
        return 0
    own = getattr(model, "num_classes", None)
    return int(model.spec.num_classes if own is None else own)


def latent_spaces(model: object) -> tuple[str, ...]:
    """Return the names of a model's latent spaces, the default first; empty if there is only one."""
    return tuple(getattr(model, "spaces", ()))


def likelihood_kind(model: LikelihoodModel) -> LikelihoodKind:
    """Return what a model's log-likelihoods are, from its class attribute `likelihood_kind`.

    Raises:
        TypeError: it does not say so.
    """
    kind: LikelihoodKind | None = getattr(model, "likelihood_kind", None)
    if kind is None or kind not in get_args(LikelihoodKind):
        name, known = type(model).__name__, ", ".join(map(repr, get_args(LikelihoodKind)))
        raise TypeError(f"{name}.likelihood_kind is {kind!r}; give one of {known}.")
    return kind


def size_multiple(editor: Editor) -> int | None:
    """Return the number that an editor's heights and widths must be multiples of; None if its spec fixes both."""
    return getattr(editor, "size_multiple", None)


def reach(editor: Editor) -> float:
    """Return how many pixels away, in each direction, a result of an editor depends on its image.

    It is the model's attribute `reach`: infinite for a network that sees the whole image, and 0 if unknown.
    """
    return float(getattr(editor, "reach", 0))


def reference_size(editor: Editor) -> tuple[int, int]:
    """Return the height and width of the references that an editor gets: its own, or those of its spec."""
    spec = getattr(editor, "spec")  # noqa: B009  # a Protocol has no spec, but every model has
    size: tuple[int, int] = getattr(editor, "reference_size", (spec.height, spec.width))
    return size
