"""Splitting batches into micro-batches."""

from itertools import pairwise
from typing import Any

from torch import Tensor

from aigc_lightning.core.batch import batch_size


def split(batch: Any, parts: int, group_size: int = 1) -> list[Any]:
    """Return the batch in at most `parts` parts of nearly equal size, in order; none is empty.

    Args:
        batch: a mapping or sequence of tensors and lists whose first dimension is the sample, or one tensor.
        parts: number of parts.
        group_size: number of samples that stay together; all parts but the last are multiples of it.
    """
    size = batch_size(batch)
    groups = -(-size // group_size)
    parts = min(parts, groups)
    if parts == 1:
        return [batch]
    bounds = [min(groups * number // parts * group_size, size) for number in range(parts + 1)]
    return [_cut(batch, slice(first, last), size) for first, last in pairwise(bounds)]


def _cut(value: Any, part: slice, size: int) -> Any:
    if isinstance(value, dict):
        return {key: _cut(item, part, size) for key, item in value.items()}
    if isinstance(value, Tensor):
        return value if _is_scalar(value) or len(value) != size else value[part]
    if isinstance(value, list | tuple):
        return value[part] if len(value) == size else type(value)(_cut(item, part, size) for item in value)
    return value


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0
