"""Approximate search in large indexes, by a graph of near neighbours that the `usearch` package builds.

Paper: Malkov, Yashunin, Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small
World Graphs, TPAMI 2020, https://arxiv.org/abs/1603.09320.

The graph of an index is in the user's cache and not beside the index: usearch trusts the files that it reads, and an
index may come from a stranger. A graph finds candidates only, whose similarities are computed exactly.
Shapes: N images, D dimensions.
"""

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.evaluation.assets import cache_folder

#: Images up to which a search is one exact matrix product.
EXACT = 100_000
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 256, 512
_PER_CANDIDATE = 240  # embeddings for each candidate of a search: among more of them, more are nearly as close
_AT_ONCE = 10_000  # vectors between two reports of progress
_SPARE = 2  # times as many candidates as results are ranked exactly: the graph has half precision

Keys = npt.NDArray[np.uint64]


class Graph:
    """The graph of an index's embeddings, in memory or read from its file as needed.

    Args:
        found: a usearch index.
        vectors: the embeddings, float32 (N, D).

    Attributes:
        is_current: whether it has exactly these embeddings.
    """

    def __init__(self, found: Any, vectors: Tensor) -> None:
        found.expansion_search = max(_EXPANSION_SEARCH, len(vectors) // _PER_CANDIDATE)
        self._found = found
        self._vectors = normalize(vectors, dim=1)
        keys = _keys(self._vectors)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        known = np.sort(_keys_of(found))
        self.is_current = bool(np.array_equal(known, np.unique(self._sorted)))

    def search(self, query: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Return about the most similar embeddings: cosine similarities (num,), and rows, int64 (num,).

        Args:
            query: (D,), of any length.
            num: how many.
        """
        unit = normalize(query[None].float(), dim=1)[0]
        keys = self._found.search(unit.numpy(), _SPARE * num, threads=1).keys
        first, last = (np.searchsorted(self._sorted, keys, side) for side in ("left", "right"))
        places = [np.arange(start, end) for start, end in zip(first, last, strict=True)]  # equal images have one key
        rows = torch.from_numpy(self._order[np.concatenate(places)])
        similarities = self._vectors[rows] @ unit
        best = similarities.topk(min(num, len(rows)))
        return best.values, rows[best.indices]


def is_available() -> bool:
    """Return whether usearch is installed."""
    return find_spec("usearch") is not None


def open_graph(index: Path, vectors: Tensor) -> Graph | None:
    """Return the graph of an index for searching; None if there is none for exactly these embeddings.

    Args:
        index: the index's file.
        vectors: its embeddings, (N, D).
    """
    path = _path(index)
    if not is_available() or not path.is_file():
        return None
    graph = Graph(_read(path, vectors.shape[1], view=True), vectors)
    return graph if graph.is_current else None


def update_graph(index: Path, vectors: Tensor, watch: Callable[[int, int], object] = lambda done, total: None) -> Path:
    """Build the graph of an index, or bring it up to date: only new embeddings are added. Return its file.

    Args:
        index: the index's file.
        vectors: its embeddings, (N, D).
        watch: called with the numbers of added embeddings and of all that are to be added.
    """
    path, units = _path(index), normalize(vectors, dim=1)
    keys, rows = np.unique(_keys(units), return_index=True)
    found = _read(path, vectors.shape[1], view=False) if path.is_file() else _new(vectors.shape[1])
    known = _keys_of(found)
    gone = np.setdiff1d(known, keys)
    if len(gone):
        found.remove(gone)
    is_new = ~np.isin(keys, known)
    for start in range(0, int(is_new.sum()), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found.add(keys[is_new][part], units[torch.from_numpy(rows[is_new][part])].numpy())
        watch(min(start + _AT_ONCE, int(is_new.sum())), int(is_new.sum()))
    with replacing(path) as temporary:
        found.save(str(temporary))
    return path


def _new(dimensions: int) -> Any:
    from usearch.index import Index

    return Index(
        ndim=dimensions,
        metric="ip",
        dtype="f16",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
    )


def _read(path: Path, dimensions: int, *, view: bool) -> Any:
    """Return the graph in a file, or an empty one if it has other dimensions or cannot be read."""
    from usearch.index import Index

    try:
        found: Any = Index.restore(str(path), view=view)
    except (RuntimeError, ValueError):
        return _new(dimensions)
    if found is None or found.ndim != dimensions:
        return _new(dimensions)
    found.expansion_add = _EXPANSION_ADD
    return found


def _keys_of(found: Any) -> Keys:
    keys: Keys = found.keys[: len(found)] if len(found) else np.empty(0, np.uint64)
    return keys


def _path(index: Path) -> Path:
    return cache_folder() / "graphs" / f"{hashlib.sha256(str(index.resolve()).encode()).hexdigest()[:32]}.usearch"


def _keys(vectors: Tensor) -> Keys:
    """Return a hash of each vector, uint64 (N,): embeddings keep theirs when others come and go."""
    bits = vectors.contiguous().numpy().view(np.uint32)
    factors: Keys = np.random.default_rng(0).integers(2**63, size=(bits.shape[1],), dtype=np.uint64) * np.uint64(2)
    factors += np.uint64(1)  # odd, so that no bit is lost
    total = np.zeros(len(bits), np.uint64)
    for column, factor in enumerate(factors):  # column by column: the product of all would take eight times the memory
        total += bits[:, column].astype(np.uint64) * factor
    mixed: Keys = total ^ (total >> np.uint64(32))
    return mixed
