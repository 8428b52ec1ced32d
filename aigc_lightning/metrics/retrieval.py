"""Retrieval by class: how well the neighbours of an image, by cosine similarity, have its class.

Each image is a query against all others; an image is relevant if it has the query's class. Recall@K is the share of
queries with a relevant image among the first K, as in metric learning (Jegou et al., Product quantization for nearest
neighbor search, TPAMI 2011; Oh Song et al., CVPR 2016). Average precision is the mean, over a query's relevant images,
of the precision at their ranks in the whole ranking.
Shapes: N images, D dimensions, K cut-offs.
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
    if not vectors.isfinite().all():
        raise UserError("Some embeddings are not finite.", "Check the model: its training may have diverged.")
    counts = labels.unique(return_inverse=True, return_counts=True)
    queries = (counts[2][counts[1]] > 1).nonzero()[:, 0]
    if not len(queries):
        raise UserError("No two images have the same class.", "Give more images of each class.")
    units = normalize(vectors.float(), dim=1)
    recalls, precisions = [], []
    for rows in queries.split(_BLOCK):
        similarities = units[rows] @ units.T
        similarities.scatter_(1, rows[:, None], -torch.inf)  # the query itself comes last, and is cut off
        ranking = similarities.argsort(dim=1, descending=True, stable=True)[:, :-1]
        relevant = (labels[ranking] == labels[rows, None]).double()
        recalls.append(torch.stack([relevant[:, :cut].amax(dim=1) for cut in cut_offs], dim=1))
        ranks = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64)
        precision = relevant.cumsum(dim=1) / ranks
        precisions.append((precision * relevant).sum(dim=1) / relevant.sum(dim=1))
    return Retrieval(queries, torch.cat(recalls), torch.cat(precisions))
