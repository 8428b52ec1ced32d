"""How well embeddings find images by class or by caption, and tell new classes apart from a few examples.

Shapes: B batch, N images, C channels, H and W height and width in pixels, D dimensions.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from aigc_lightning.core.capabilities import TextEmbedder
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import Labelled, collect
from aigc_lightning.evaluation.extractors import Extractor
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.receipt import Kind, Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.score_names import FEW_SHOT_SIZES, RETRIEVAL_KEYS, TEXT_RETRIEVAL_KEYS, spread_key
from aigc_lightning.metrics.few_shot import few_shot
from aigc_lightning.metrics.retrieval import Retrieval, retrieval, text_retrieval

_CUT_OFFS = (1, 5, 10)
_PIXELS = 32  # largest height and width of the images whose pixels are the baseline
_EPISODES = 1000


class EmbeddedImages:
    """Labelled images embedded by an extractor and, as the baseline of all scores, by their own pixels.

    Args:
        extractor: of the embeddings, on the device where it computes.
        images: with classes.
        progress: shows progress.

    Attributes:
        vectors: (N, D), in the order of the images' numbers.
        pixels: (N, pixels of small copies), in the same order.
        labels: int64 (N,).

    Raises:
        UserError: the images have no classes.
    """

    def __init__(self, extractor: Extractor, images: DataImages, progress: Progress = silent) -> None:
        progress(images.name, len(images), 0)
        pixels: list[Tensor] = []
        bank = collect(
            extractor,
            _remembered(images, pixels),
            with_logits=False,
            progress=lambda done: progress(images.name, len(images), done),
        )
        if bank.labels is None or not images.class_names:
            raise UserError(f"{images.name} has no classes.", "Give labelled data.")
        assert bank.features is not None
        self.images, self.embedder = images, extractor.fingerprint
        self.vectors, self.labels = bank.features, bank.labels
        self.pixels = torch.cat(pixels)[torch.tensor(images.numbers).argsort()]  # the order of the bank

    def section(self, kind: Kind, scores: dict[str, float], baseline: dict[str, float], **more: Any) -> Section:
        """Return scores with what they depend on.

        Args:
            kind: of the scores.
            scores: by key.
            baseline: of the images' pixels, by key.
            more: further fields of a section; `protocol` is added to what all scores of embeddings depend on.
        """
        own = {"num": len(self.images), "reference": self.images.fingerprint(), "similarity": "cosine"}
        protocol = {**own, **more.pop("protocol")}
        subject = {"images": self.images.name, "embedder": self.embedder}
        return Section(kind, scores, protocol, baseline, "pixels", subject=subject, **more)


def score_retrieval(embedded: EmbeddedImages) -> Section:
    """Return recall@1, 5 and 10 and the mean average precision, each image being a query against all others.

    Raises:
        UserError: no two images have the same class.
    """
    labels = embedded.labels
    found = retrieval(embedded.vectors, labels, _CUT_OFFS)
    baseline = retrieval(embedded.pixels, labels, _CUT_OFFS)
    rows = {
        name: _means(found, of_class)
        for number, name in enumerate(embedded.images.class_names)
        if (of_class := labels[found.queries] == number).any()
    }
    protocol = {"queries": len(found.queries)}
    return embedded.section("retrieval", _means(found), _means(baseline), protocol=protocol, classes=rows)


def score_text_retrieval(extractor: Extractor, images: DataImages, progress: Progress = silent) -> Section:
    """Return recall@1, 5 and 10 and the mean average precision, each caption being a query against all images.

    Args:
        extractor: a model that embeds images and texts.
        images: with captions; those with equal captions are found by either.
        progress: shows progress.
    """
    assert isinstance(extractor.network, TextEmbedder)
    progress(images.name, len(images), 0)
    bank = collect(
        extractor,
        images.batches(),
        with_logits=False,
        progress=lambda done: progress(images.name, len(images), done),
    )
    assert bank.features is not None
    captions = images.subset(bank.index.tolist()).captions()
    blocks = [captions[start : start + images.block] for start in range(0, len(captions), images.block)]
    texts = torch.cat([extractor.network.embed_text(block).float().cpu() for block in blocks])
    found = text_retrieval(texts, bank.features, captions, _CUT_OFFS)
    random = torch.randn(bank.features.shape, generator=torch.Generator().manual_seed(0))
    chance = text_retrieval(texts, random, captions, _CUT_OFFS)
    scores, baseline = (dict(zip(TEXT_RETRIEVAL_KEYS, _means(each).values(), strict=True)) for each in (found, chance))
    protocol = {
        "num": len(images),
        "queries": len(found.queries),
        "reference": images.fingerprint(),
        "captions": hashlib.sha256("\n".join(captions).encode()).hexdigest()[:32],
        "similarity": "cosine",
    }
    subject = {"images": images.name, "embedder": extractor.fingerprint}
    return Section("text_retrieval", scores, protocol, baseline, "random vectors", subject=subject)


def score_few_shot(embedded: EmbeddedImages) -> Section:
    """Return the accuracy of 5-way and 20-way episodes with 1 and 5 examples of each class.

    What has too few classes, or classes with too few images, is left out with the reason.

    Raises:
        UserError: there are too few for any of them.
    """
    scores: dict[str, float] = {}
    baseline: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for key, (ways, shots) in FEW_SHOT_SIZES.items():
        try:
            found = few_shot(embedded.vectors, embedded.labels, ways, shots, _EPISODES)
        except UserError as error:
            left_out[key] = error.what
            continue
        scores |= {key: found.accuracy, spread_key(key): found.stderr}
        baseline[key] = few_shot(embedded.pixels, embedded.labels, ways, shots, _EPISODES).accuracy
    if not scores:
        raise UserError(next(iter(left_out.values())), "Give data with more classes or images, or other --metrics.")
    protocol = {"episodes": _EPISODES, "seed": 0}
    return embedded.section("few_shot", scores, baseline, protocol=protocol, left_out=left_out)


def _remembered(images: DataImages, pixels: list[Tensor]) -> Iterator[Labelled]:
    """Yield the images' batches, and keep the pixels of small copies as vectors."""
    for batch in images.batches():
        height, width = batch[0].shape[-2:]
        small = adaptive_avg_pool2d(batch[0].float(), (min(height, _PIXELS), min(width, _PIXELS)))
        pixels.append(small.flatten(1))
        yield batch


def _means(found: Retrieval, which: Tensor | slice = slice(None)) -> dict[str, float]:
    """Return the mean scores of some of the queries."""
    means = [*found.recalls[which].mean(dim=0).tolist(), found.precisions[which].mean().item()]
    return dict(zip(RETRIEVAL_KEYS, means, strict=True))
