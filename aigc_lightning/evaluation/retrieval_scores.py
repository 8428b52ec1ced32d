"""How well a model's embeddings find images of the same class.

Shapes: B batch, N images, C channels, H and W height and width in pixels, D dimensions.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from aigc_lightning.core.capabilities import Embedder
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import Labelled, collect
from aigc_lightning.evaluation.extractors import ModelExtractor
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.scores import RETRIEVAL_KEYS
from aigc_lightning.metrics.retrieval import Retrieval, retrieval

_CUT_OFFS = (1, 5, 10)
_PIXELS = 32  # largest height and width of the images whose pixels are the baseline


def score_retrieval(model: ImageModel, images: DataImages, progress: Progress = silent) -> Section:
    """Return recall@1, 5 and 10 and the mean average precision, each image being a query against all others.

    The baseline is retrieval by the images' own pixels.

    Args:
        model: with the capability `embed`.
        images: with classes.
        progress: shows progress.

    Raises:
        UserError: no two images have the same class.
    """
    assert isinstance(model, Embedder)
    extractor = ModelExtractor(model).to(model.device)
    progress(images.name, len(images), 0)
    pixels: list[Tensor] = []
    bank = collect(
        extractor,
        _remembered(images, pixels),
        with_logits=False,
        progress=lambda done: progress(images.name, len(images), done),
    )
    labels = bank.labels
    if labels is None or not images.class_names:
        raise UserError(f"{images.name} has no classes.", "Give labelled data.")
    assert bank.features is not None
    order = torch.tensor(images.numbers).argsort()  # the order of the bank
    found = retrieval(bank.features, labels, _CUT_OFFS)
    baseline = retrieval(torch.cat(pixels)[order], labels, _CUT_OFFS)
    rows = {
        name: _means(found, of_class)
        for number, name in enumerate(images.class_names)
        if (of_class := labels[found.queries] == number).any()
    }
    protocol = {
        "num": len(images),
        "queries": len(found.queries),
        "reference": images.fingerprint(),
        "similarity": "cosine",
    }
    subject = {"images": images.name, "embedder": extractor.fingerprint}
    return Section("retrieval", _means(found), protocol, _means(baseline), "pixels", rows, subject)


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
