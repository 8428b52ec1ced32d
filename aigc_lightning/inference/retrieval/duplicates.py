"""Near duplicates in or between sets of images, also mirrored and cropped ones.

Whether two embeddings are close enough depends on the embedder and the images. The threshold therefore comes from how
close the images of the index come to each other when they are varied in the same ways, as that of `metrics.copies`
comes from held-out images. Nearest distances of different images are about Weibull distributed, as minima of many
distances are. Their quartile and median give the distribution, and hardly change while few images have duplicates.
Shapes: M queries, V variants, N images, C channels, H and W height and width in pixels, D dimensions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.evaluation.image_sets import chosen
from aigc_lightning.evaluation.variants import VARIANTS, variants
from aigc_lightning.inference.retrieval.index import Entry, ImageIndex, pixels_of
from aigc_lightning.inference.retrieval.indexing import embed
from aigc_lightning.metrics.neighbours import nearest

#: Share of different images that is called duplicates.
FALSE_ALARMS = 0.001
_LOWER = 0.25  # quantile that gives the shape of the distribution, with the median
_NEIGHBOURS = 10  # duplicates of an image that are found at most
_FEWEST = 20  # distances from which a threshold is computed
_CALIBRATION = 1000  # images at most whose distances set the threshold
_AT_ONCE = 64  # images whose variants are embedded together


Item = TypeVar("Item")


class Pair(NamedTuple):
    """Two images that are nearly the same."""

    query: str
    found: str
    distance: float  # between normalised embeddings, in [0, 2]
    variant: str  # of the query, one of `VARIANTS`


class Duplicates(NamedTuple):
    """Near duplicates, the closest first, and the distance below which two images are called so."""

    pairs: list[Pair]
    threshold: float


def duplicates(
    extractor: Extractor,
    queries: Sequence[tuple[str, Entry]],
    index: ImageIndex,
    *,
    within: bool,
    watch: Callable[[int, int], object] = lambda done, total: None,
) -> Duplicates:
    """Return the images of an index that are near duplicates of queries, or of variants of them.

    Args:
        extractor: that of the index.
        queries: entries by the same extractor, with their names.
        index: where duplicates are searched for; its own distances set the threshold.
        within: whether the queries are the index's own images, which are no duplicates of themselves.
        watch: called with the numbers of images that have been varied and of all that are to be.

    Raises:
        UserError: the index has too few images for a threshold.
    """
    points, names = normalize(index.vectors.double(), dim=1), index.names
    rows = chosen(len(names), _CALIBRATION)
    total = len(rows) + len(queries)
    limit = threshold(_distances_of_different(extractor, index, points, rows, lambda done: watch(done, total)))
    best: dict[tuple[str, str], Pair] = {}
    for number, block in enumerate(_blocks(queries)):
        distances, places = nearest(_varied(extractor, block), points, min(_NEIGHBOURS, len(points)))
        for row, column in (distances < limit).nonzero().tolist():
            query, found = block[row // len(VARIANTS)][0], names[int(places[row, column])]
            if within and query == found:
                continue
            key = (min(query, found), max(query, found)) if within else (query, found)
            pair = Pair(query, found, float(distances[row, column]), VARIANTS[row % len(VARIANTS)])
            if key not in best or pair.distance < best[key].distance:
                best[key] = pair
        watch(len(rows) + number * _AT_ONCE + len(block), total)
    return Duplicates(sorted(best.values(), key=lambda pair: (pair.distance, pair.query, pair.found)), limit)


def threshold(distances: Tensor) -> float:
    """Return the distance below which two images are near duplicates.

    Args:
        distances: (N,), from images to the nearest other image of the same set.

    Raises:
        UserError: too few of them are positive.
    """
    different = distances[distances > 0].double()
    if len(different) < _FEWEST:
        raise UserError(
            f"Only {len(different)} images of the index differ from all others, so no threshold can be computed.",
            f"Index at least {_FEWEST} different images.",
        )
    lower, median = different.quantile(torch.tensor([_LOWER, 0.5], dtype=torch.float64)).tolist()
    if lower == median:
        return float(median)
    # Weibull: P(distance < x) = 1 - exp(-(x / scale) ** shape)
    shape = math.log(math.log(0.5) / math.log(1 - _LOWER)) / math.log(median / lower)
    return float(median * (math.log(1 - FALSE_ALARMS) / math.log(0.5)) ** (1 / shape))


def _distances_of_different(
    extractor: Extractor, index: ImageIndex, points: Tensor, rows: Sequence[int], watch: Callable[[int], object]
) -> Tensor:
    """Return, for some rows of an index, the distance to the nearest other image over all variants of an image."""
    entries, found = list(index.entries.items()), []
    for number, block in enumerate(_blocks(rows)):
        own = torch.tensor(block).repeat_interleave(len(VARIANTS))
        vectors = _varied(extractor, [entries[row] for row in block])
        distances, places = nearest(vectors, points, min(2, len(points)))
        others = distances.masked_fill(places == own[:, None], torch.inf)
        found.append(others.view(len(block), -1).amin(dim=1))
        watch(number * _AT_ONCE + len(block))
    distances = torch.cat(found)
    return distances[distances.isfinite()]


def _blocks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _varied(extractor: Extractor, block: Sequence[tuple[str, Entry]]) -> Tensor:
    """Return the normalised embeddings of all variants of queries, (M * V, D); those of the images are known."""
    images = [variant for name, entry in block for variant in variants(pixels_of(entry.picture, name))[1:]]
    own = torch.stack([entry.vector for _, entry in block])
    others = embed(extractor, images).view(len(block), len(VARIANTS) - 1, -1)
    return normalize(torch.cat([own[:, None], others], dim=1).flatten(0, 1).double(), dim=1)
