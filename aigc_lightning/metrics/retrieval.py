"""Retrieval: how well the neighbours of a query, by cosine similarity, are what it asks for.

Queries are the images, each against all others, or texts against images; an image is relevant if it has the query's
class or caption. Recall@K is the share of queries with a relevant image among the first K, as in metric learning (Jegou
et al., Product quantization for nearest neighbor search, TPAMI 2011; Oh Song et al., CVPR 2016). Average precision is
the mean, over a query's relevant images, of the precision at their ranks in the whole ranking.
Shapes: N images, Q queries, D dimensions, K cut-offs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lightning.errors import UserError

_BLOCK = 256  # queries ranked together


class Retrieval(NamedTuple):
    """The scores of each query that has a relevant image."""

    queries: Tensor  # int64 (Q,), the rows of the queries
    recalls: Tensor  # float64 (Q, K), 1 where a relevant image is among the first
    precisions: Tensor  # float64 (Q,), average precisions


def retrieval(vectors: Tensor, labels: Tensor, cut_offs: Sequence[int] = (1, 5, 10)) -> Retrieval:
    """Return the retrieval scores of all images whose class has another image.

    Args:
        vectors: (N, D), of any length.
        labels: int64 (N,), the classes.
        cut_offs: numbers of first results that recall looks at.

    Raises:
        UserError: no two images have the same class, or a vector is not finite.
    """
    units = _units(vectors)
    counts = labels.unique(return_inverse=True, return_counts=True)
    queries = (counts[2][counts[1]] > 1).nonzero()[:, 0]
    if not len(queries):
        raise UserError("No two images have the same class.", "Give more images of each class.")
    found = []
    for rows in queries.split(_BLOCK):
        similarities = units[rows] @ units.T
        similarities.scatter_(1, rows[:, None], -torch.inf)  # the query itself comes last, and is cut off
        ranking = similarities.argsort(dim=1, descending=True, stable=True)[:, :-1]
        found.append(_scored(labels[ranking] == labels[rows, None], cut_offs))
    return Retrieval(queries, *map(torch.cat, zip(*found, strict=True)))


def text_retrieval(
    texts: Tensor, vectors: Tensor, captions: Sequence[str], cut_offs: Sequence[int] = (1, 5, 10)
) -> Retrieval:
    """Return the retrieval scores of all different captions, each a query against all images.

    Args:
        texts: embeddings of the images' captions, (N, D), of any length.
        vectors: embeddings of the images, (N, D), of any length.
        captions: of the images; an image is relevant to all captions that read as its own.
        cut_offs: numbers of first results that recall looks at.

    Returns:
        Scores whose `queries` are the rows of the first image of each caption.

    Raises:
        UserError: a vector is not finite.
    """
    numbers: dict[str, int] = {}
    labels = torch.tensor([numbers.setdefault(text, len(numbers)) for text in captions])
    queries = torch.tensor([captions.index(text) for text in numbers])
    text_units, units = _units(texts), _units(vectors)
    found = []
    for rows in queries.split(_BLOCK):
        ranking = (text_units[rows] @ units.T).argsort(dim=1, descending=True, stable=True)
        found.append(_scored(labels[ranking] == labels[rows, None], cut_offs))
    return Retrieval(queries, *map(torch.cat, zip(*found, strict=True)))


def _units(vectors: Tensor) -> Tensor:
    if not vectors.isfinite().all():
        raise UserError("Some embeddings are not finite.", "Check the model: its training may have diverged.")
    return normalize(vectors.float(), dim=1)


def _scored(is_relevant: Tensor, cut_offs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the recalls (Q, K) and average precisions (Q,) of rankings (Q, N), true at relevant images."""
    relevant = is_relevant.double()
    recalls = torch.stack([relevant[:, :cut].amax(dim=1) for cut in cut_offs], dim=1)
    precision = relevant.cumsum(dim=1) / torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64)
    return recalls, (precision * relevant).sum(dim=1) / relevant.sum(dim=1)
