"""The network of an `image_gpt`, `maskgit` or `var` as an exported program, with the loop that draws tokens with it.

Shapes: B batch, N tokens of an image, K codes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from aigc_lightning.core.export_graphs import ExportGraph, ExportLoop, GraphInput, label_input
from aigc_lightning.networks.byte_encoder import FIRST_BYTE, NUM_TOKENS, PADDING, START
from torch import Tensor

from aigc_autoregressive import exported_sampling
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.word_vectors import NUM_ROWS

if TYPE_CHECKING:
    from aigc_autoregressive.models.token_model import TokenModel

#: What is drawn next: single tokens, a whole scale, or the tokens of which the model is most confident.
Order = Literal["tokens", "scales", "confidence"]
#: Returns the logits (B, N, K) of tokens (B, N), of which only those before a token, or those not masked, are used.
Logits = Callable[[Tensor, Condition], Tensor]

_SEEDS = [0, 1]  # whose images are compared with those of an exported program
_MOST_PASSES = 1024  # over an image, token by token
_DRAWN = "each drawing of tokens depends on the one before"


def token_graphs(model: "TokenModel", order: Order, logits: Logits) -> dict[str, ExportGraph | str]:
    """Return `predict`, the logits of each token, with the loop that draws them, and what is not exported and why.

    With a tokenizer it also gives the image of the tokens.

    Args:
        model: to export.
        order: in which it draws tokens.
        logits: of its averaged network; in the order "confidence" the token K stands for a masked one.
    """
    refused: dict[str, ExportGraph | str] = {
        "edit": _DRAWN,
        "embed": "its features are taken from the middle of the network",
    }
    maps = model.maps
    lengths = [rows * columns * maps.channels for rows, columns in maps.grids]
    if order == "tokens":
        lengths = [1] * maps.num_tokens
    if len(lengths) > _MOST_PASSES:
        many = f"its images have {len(lengths):,} tokens, each a pass over all; {_MOST_PASSES:,} at most"
        return {"sample": many, **refused}
    has_mask, has_tokenizer = order == "confidence", model.tokenizer is not None
    inputs = {"tokens": GraphInput(("batch", maps.num_tokens), 0, maps.num_codes - 1 + has_mask, integers=True)}
    if model.num_classes:
        inputs["labels"] = label_input(model.num_classes + model.has_guidance)  # the last is that of an open class
    network: Any = model.averaged("network")
    if network.text is not None:
        inputs.update(_text_inputs(network.text.max_length))

    def call(
        tokens: Tensor, labels: Tensor | None = None, texts: Tensor | None = None, words: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        shown = Condition(labels=labels)
        if texts is not None and words is not None:
            shown = network.condition_of_tokens(texts, words)
        found = logits(tokens, shown)
        # While an image is drawn it has masked tokens, which are no codes.
        return (found, maps.images(tokens.clamp(max=maps.num_codes - 1))) if has_tokenizer else found

    drawing: Any = model
    example: dict[str, Any] = {"seeds": _SEEDS, **({"prompts": ["a B", "\u00e9"]} if network.text is not None else {})}
    graph = ExportGraph(
        model,
        call,
        inputs,
        ("logits", "images") if has_tokenizer else ("logits",),
        meaning="logits of each token; images of the tokens, in [-1, 1]" if has_tokenizer else "of each token",
        loop=ExportLoop(
            exported_sampling, _settings(model, order, lengths), example, lambda: drawing.sample(**example)
        ),
    )
    return {"predict": graph, **refused}


def _settings(model: "TokenModel", order: Order, lengths: list[int]) -> dict[str, Any]:
    """Return what the loop has to know, as plain values."""
    text: Any = model.network.text
    return {
        "order": order,
        "shape": list(model.spec.shape),
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
