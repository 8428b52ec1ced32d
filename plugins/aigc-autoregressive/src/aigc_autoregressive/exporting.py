"""The network of an `image_gpt`, `maskgit` or `var` as an exported program, with the loop that draws tokens with it.

Shapes: B batch, N tokens of an image, K codes.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from aigc_lightning.core import exported_files
from aigc_lightning.core.export_graphs import ExportGraph, GraphInput, image_input, image_trials, label_input
from aigc_lightning.core.export_loops import Example, ExportLoop
from aigc_lightning.networks.byte_encoder import FIRST_BYTE, NUM_TOKENS, PADDING, START
from torch import Tensor

from aigc_autoregressive import exported_noise, exported_sampling
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.word_vectors import NUM_ROWS

if TYPE_CHECKING:
    from aigc_autoregressive.models.token_model import TokenModel

#: What is drawn next: single tokens, a whole scale, or the tokens of which the model is most confident.
Order = Literal["tokens", "scales", "confidence"]
#: Returns the logits (B, N, K) of tokens (B, N), of which only those before a token, or those not masked, are used.
Logits = Callable[[Tensor, Condition], Tensor]

_SEEDS = [0, 1]  # whose images are compared with those of an exported program
MOST_PASSES = 1024  # over an image, of a loop
LIKELIHOODS = "of images, each value of which is taken for the nearest level; in nats, float64"


def token_graphs(model: "TokenModel", order: Order, logits: Logits) -> dict[str, ExportGraph | str]:
    """Return `predict`, the logits of each token, with the loop that draws them; `embed`; and what is not exported.

    With a tokenizer `predict` also gives the image of the tokens.

    Args:
        model: to export.
        order: in which it draws tokens.
        logits: of its averaged network; in the order "confidence" the token K stands for a masked one.
    """
    maps = model.maps
    why_not = f"the model was never trained without {model.condition_name}"
    others: dict[str, ExportGraph | str] = {} if _edits(model) else {"edit": why_not}
    others["embed"] = ExportGraph(
        model, model.embed, {"images": image_input(model, dynamic=False)}, ("embeddings",), trials=image_trials(model)
    )
    lengths = [rows * columns * maps.channels for rows, columns in maps.grids]
    if order == "tokens":
        lengths = [1] * maps.num_tokens
    if len(lengths) > MOST_PASSES:
        return {"sample": too_many_passes(len(lengths)), **others}
    has_mask, has_tokenizer = order == "confidence", model.tokenizer is not None

    def call(
        tokens: Tensor, labels: Tensor | None = None, texts: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        found = logits(tokens, _shown(model, labels, texts, words))
        # While an image is drawn it has masked tokens, which are no codes.
        return (found, maps.images(tokens.clamp(max=maps.num_codes - 1))) if has_tokenizer else found

    graph = ExportGraph(
        model,
        call,
        {"tokens": _token_input(model, has_mask), **_condition_inputs(model)},
        ("logits", "images") if has_tokenizer else ("logits",),
        meaning="logits of each token; images of the tokens, in [-1, 1]" if has_tokenizer else "of each token",
        loop=_loop(model, _settings(model, order, lengths)),
    )
    return {"predict": graph, **others}


def likelihood_graph(model: "TokenModel", logits: Logits) -> ExportGraph:
    """Return the exact log-likelihoods of images, by a model of the levels of pixels.

    Args:
        model: to export.
        logits: of its averaged network, of each token by those before.
    """

    def call(
        images: Tensor, labels: Tensor | None = None, texts: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor:
        tokens = model.maps.tokens(images)
        log_prob = logits(tokens, _shown(model, labels, texts, words)).log_softmax(-1)
        return log_prob.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).double().sum(1)

    inputs = {"images": image_input(model, dynamic=False), **_condition_inputs(model)}
    return ExportGraph(model, call, inputs, ("log_likelihoods",), meaning=LIKELIHOODS)


def _condition_inputs(model: "TokenModel") -> dict[str, GraphInput]:
    """Return the inputs that say what the images are of."""
    network: Any = model.averaged("network")
    if model.num_classes:
        return {"labels": label_input(model.num_classes + model.has_guidance)}  # the last is that of an open class
    return {} if network.text is None else _text_inputs(network.text.max_length)


def _shown(model: "TokenModel", labels: Tensor | None, texts: Tensor | None, words: Tensor | None) -> Condition:
    network: Any = model.averaged("network")
    if texts is None or words is None:
        return Condition(labels=labels)
    condition: Condition = network.condition_of_tokens(texts, words)
    return condition


def _edits(model: "TokenModel") -> str:
    """Return "holes" if the loop fills holes of pictures, else ""."""
    return "holes" if model.condition_name == "none" or model.condition_dropout > 0 else ""


def _programs(model: "TokenModel", settings: Mapping[str, Any]) -> dict[str, ExportGraph]:
    """Return `encode`, which gives the tokens of pictures, where a tokenizer does."""
    if not settings["edits"] or not settings["has_tokenizer"]:
        return {}
    inputs, meaning = {"images": image_input(model, dynamic=False)}, "of images, int64"
    call: Callable[..., Tensor] = model.maps.tokens
    if settings["order"] == "scales":
        tokens: Any = model
        call, meaning = tokens.found_again, "of images, each after the coarser ones that are given, int64"
        inputs["given"] = _token_input(model)
    return {"encode": ExportGraph(model, call, inputs, ("tokens",), meaning=meaning)}


def _token_input(model: "TokenModel", has_mask: bool = False) -> GraphInput:
    maps = model.maps
    return GraphInput(("batch", maps.num_tokens), 0, maps.num_codes - 1 + has_mask, integers=True)


def _loop(model: "TokenModel", settings: Mapping[str, Any]) -> ExportLoop:
    drawing: Any = model
    example: dict[str, Any] = {"seeds": _SEEDS, **({"prompts": ["a B", "\u00e9"]} if settings["text_length"] else {})}
    others: list[Example] = []
    if settings["edits"]:
        pictures = 2 * torch.rand(len(_SEEDS), *model.spec.shape, generator=torch.Generator().manual_seed(0)) - 1
        masks = torch.zeros_like(pictures[:, :1])
        masks[..., -(-masks.shape[-1] // 2) :] = 1
        edit = {**example, "pictures": pictures.numpy(), "masks": masks.numpy()}
        others.append((edit, lambda: drawing.edit(pictures, masks=masks, **example)))
    parts = (exported_files, exported_noise)
    expected, programs = (lambda: drawing.sample(**example)), _programs(model, settings)
    return ExportLoop(exported_sampling, settings, example, expected, parts, others, programs)


def too_many_passes(passes: int) -> str:
    """Return why there is no loop that takes so many passes over an image."""
    return f"an image takes {passes:,} passes, one for each token or pixel; {MOST_PASSES:,} at most"


def _settings(model: "TokenModel", order: Order, lengths: list[int]) -> dict[str, Any]:
    """Return what the loop has to know, as plain values."""
    text: Any = model.network.text
    return {
        "order": order,
        "image_shape": list(model.spec.shape),
        "edits": _edits(model),
        "grids": [list(grid) for grid in model.maps.grids],
        "tokens_of_place": model.maps.channels,
        "passes": model.maps.passes,
        "lengths": lengths,
        "num_codes": model.maps.num_codes,
        "num_classes": model.num_classes,
        "text_length": 0 if text is None else text.max_length,
        "num_word_rows": NUM_ROWS,
        "has_guidance": model.has_guidance,
        "has_tokenizer": model.tokenizer is not None,
    }


def _text_inputs(length: int) -> dict[str, GraphInput]:
    """Return the inputs that say what texts the images are of."""
    bytes_meaning = f"bytes of texts plus {FIRST_BYTE}, after a {START} and before as many {PADDING} as are left"
    words_meaning = "checksums of words and pairs of words plus 1, and 0 where a text has fewer"
    return {
        "texts": GraphInput(("batch", length), PADDING, NUM_TOKENS - 1, integers=True, meaning=bytes_meaning),
        "words": GraphInput(("batch", length), 0, NUM_ROWS, integers=True, meaning=words_meaning),
    }
