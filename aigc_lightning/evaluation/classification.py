"""The scores of a classifier's predictions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import Classifier
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.class_rows import classification_rows
from aigc_lightning.evaluation.image_sets import ImageSet
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.metrics.classes import class_report


def score_classifier(model: ImageModel, images: ImageSet, progress: Progress = silent) -> tuple[Section, Tensor]:
    """Return the scores of a classifier's predictions, and the confusion matrix, int64 (K, K), true classes in rows.

    Raises:
        UserError: the images have no classes, or their classes differ from the model's.
    """
    assert isinstance(model, Classifier)
    names = model.spec.class_names
    if images.class_names != names:
        raise UserError(
            f"The model knows the classes {_few(names)}, but the images have {_few(images.class_names)}.",
            "Give data with the same classes.",
        )
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    progress(images.name, len(images), 0)
    with model.inference():
        for pixels, _, truth in images.batches():
            assert truth is not None
            logits.append(model.classify((pixels.float() / 127.5 - 1).to(model.device)).float().cpu())
            labels.append(truth)
            progress(images.name, len(images), len(pixels))
    report = class_report(torch.cat(logits), torch.cat(labels), len(names))
    rows = classification_rows(report, names)
    protocol = {"num": len(images), "reference": images.fingerprint(), "averages": "macro"}
    section = Section("classification", report.scores._asdict(), protocol, {}, "", rows, {"images": images.name})
    return section, report.confusion


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4]) or "none"
    return f"{shown}, ... ({len(names)})" if len(names) > 4 else shown
