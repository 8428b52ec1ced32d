"""Where the attention layers of a model look: a capability, see `core/capabilities.py`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class AttentionModel(Protocol):
    """Shows where its attention layers look.

    Its `attention_maps` may have `labels` and `prompts`, one item per image and None for the maps without a condition.
    Keyword-only arguments of other names become options of `aigc explain`, see `method_options`. A model with prompts
    has a method `word_keys(prompt)` as well, see `TextAttentionModel`. Maps may reach below and to the right of images,
    to the height and width in pixels of an attribute `attention_extent`, where networks pad them.
    """

    @property
    def attention_grid(self) -> tuple[int, int] | Mapping[str, tuple[int, int]]:
        """Rows and columns of the places of an image, by the block's name where blocks differ; an attribute will do.

        They are the last keys of each block, row by row, and its last queries, each of which decides what is drawn at
        its place.
        """
        ...

    def attention_maps(self, images: Tensor, *args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
        """Return the attention weights of each block for images (B, C, H, W) in [-1, 1].

        Returns:
            By the block's name, from input to output: float (B, heads, queries, keys), not negative, of which each row,
            the weights of a query, sums to 1. They depend on the image and its conditions only, not on the batch.
        """
        ...


@runtime_checkable
class TextAttentionModel(AttentionModel, Protocol):
    """Shows which words of a prompt its attention layers look at."""

    def word_keys(self, prompt: str) -> Sequence[tuple[str, range]]:
        """Return the words of a prompt in their order, each with the numbers of its keys in `attention_maps`.

        A model that reads bytes gets them from `core.words.byte_words`.
        """
        ...


def attention_grid(model: AttentionModel, block: str) -> tuple[int, int]:
    """Return rows and columns of the places that are the last keys and queries of a block of a model."""
    grid = model.attention_grid
    return grid[block] if isinstance(grid, Mapping) else grid
