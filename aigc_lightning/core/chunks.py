"""Sampling in chunks of one size, so that a seed gives the same image whatever else is asked for.

The rounding of a matrix product depends on the size of the batch. So models are always asked for `sampling_chunk`
images at once; a chunk that is not full is padded by repeating its last seed, and the surplus is dropped.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import Generator

_Item = TypeVar("_Item")

#: Images that are sampled at once on processors, and elsewhere; a model may choose its own in `sampling_chunk`.
ON_PROCESSORS, ELSEWHERE = 16, 64


def chunk_size(model: Any) -> int:
    """Return how many images a model samples at once on its device."""
    own = getattr(model, "sampling_chunk", None)
    if own is not None:
        return int(own)
    return ON_PROCESSORS if model.device.type == "cpu" else ELSEWHERE


def sampled(
    model: Generator,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    *,
    prompts: Sequence[str] | None = None,
    **options: Any,
) -> Tensor:
    """Return one image per seed, (B, C, H, W) in [-1, 1], on the device of the model.

    Args:
        model: makes images.
        seeds: at least one.
        labels: the class of each image; None for what the model makes by itself.
        prompts: the text of each image; None for what the model makes by itself.
        **options: of the model's own `sample`.
    """
    return torch.cat([*sampled_chunks(model, seeds, labels, prompts=prompts, **options)])


def sampled_chunks(
    model: Generator,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
    *,
    prompts: Sequence[str] | None = None,
    **options: Any,
) -> Iterator[Tensor]:
    """Yield the images that `sampled` returns, chunk by chunk."""
    size = chunk_size(model)
    conditions: dict[str, Sequence[Any] | None] = {"labels": labels, "prompts": prompts}
    for part in parts(len(seeds), size):
        asked = {
            name: padded([items[place] for place in part], size)
            for name, items in conditions.items()
            if items is not None
        }
        yield model.sample(padded([seeds[place] for place in part], size), **asked, **options)[: len(part)]


def parts(count: int, size: int) -> list[range]:
    """Return the places of `count` items in parts of at most `size`."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def padded(items: list[_Item], size: int) -> list[_Item]:
    """Return items with the last one repeated until there are `size` of them."""
    return items + items[-1:] * (size - len(items))


def padded_rows(rows: Tensor, size: int) -> Tensor:
    """Return rows (B, ...) with the last one repeated until there are `size` of them."""
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])]) if len(rows) < size else rows
