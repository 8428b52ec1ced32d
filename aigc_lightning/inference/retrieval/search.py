"""Search in an index by cosine similarity.

Shapes: M queries, N images, D dimensions, k hits.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lightning.core.capabilities import TextEmbedder
from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.inference.retrieval.index import ImageIndex


class Hit(NamedTuple):
    """An image of an index that is similar to a query."""

    name: str
    similarity: float  # cosine, in [-1, 1]


def most_similar(queries: Tensor, vectors: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Return the most similar vectors of each query, by one exact matrix product.

    Args:
        queries: (M, D), of any length.
        vectors: (N, D), of any length.
        num: k; at most N are returned.

    Returns:
        Cosine similarities, (M, k), highest first, and rows of `vectors`, int64 (M, k).
    """
    similarities = normalize(queries, dim=1) @ normalize(vectors, dim=1).T
    values, places = similarities.topk(min(num, len(vectors)), dim=1)
    return values, places


def search(index: ImageIndex, query: Tensor, num: int) -> list[Hit]:
    """Return the images of an index that are most similar to a query, the most similar first.

    Many searches of a very large index take less time each with `coded.CodedVectors`.

    Args:
        index: where to search.
        query: (D,), of any length.
        num: k; at most N are returned.

    Raises:
        UserError: the query has another dimension than the index.
    """
    vectors, names = index.vectors, index.names
    if query.shape != vectors.shape[1:]:
        raise UserError(f"The query has {len(query)} dimensions, the index has {vectors.shape[1]}.", "Make it again.")
    values, places = most_similar(query[None].to(vectors), vectors, num)
    return [Hit(names[place], value) for value, place in zip(values[0].tolist(), places[0].tolist(), strict=True)]


def check_extractor(index: ImageIndex, extractor: Extractor) -> None:
    """Refuse an extractor whose embeddings are not comparable with those of an index.

    Raises:
        UserError: it is another one than that of the index.
    """
    if index.extractor != extractor.fingerprint:
        raise UserError(
            f"The index was made with {shown(index.extractor)}, not with {shown(extractor.fingerprint)}.",
            "Give the embedder that made the index, or make the index again with this one.",
        )


def embedded_text(extractor: Extractor, text: str) -> Tensor:
    """Return the embedding of a text, float32 (D,).

    Raises:
        UserError: the extractor embeds images only.
    """
    model = extractor.network
    if not isinstance(model, TextEmbedder):
        raise UserError(f"{extractor.name} does not embed texts.", "Search by a picture, or by --seed and --of.")
    with torch.no_grad():
        return model.embed_text([text])[0].float().cpu()
