"""Scores of each class, with intervals.

A score `key` has the ends of its 95 % interval under `key_low` and `key_high`, where it has one.
Shapes: K classes.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.scores import Sides, predicted_counts
from aigc_lightning.metrics.classes import ClassReport, intra_class_frechet
from aigc_lightning.metrics.shares import homogeneity, wilson_interval

Rows = dict[str, dict[str, float]]
_ENDS = ("_low", "_high")
#: Scores that are shares of the images of their class.
_OF_IMAGES = ("recall", "accuracy")


def is_end(key: str) -> bool:
    """Return whether a key is that of an end of an interval."""
    return key.endswith(_ENDS)


def ends_of(key: str) -> tuple[str, str]:
    """Return the keys of the ends of a score's interval."""
    low, high = _ENDS
    return f"{key}{low}", f"{key}{high}"


def with_interval(key: str, successes: int, trials: int) -> dict[str, float]:
    """Return a share of trials and the ends of its interval, by key."""
    return dict(zip((key, *ends_of(key)), wilson_interval(successes, trials), strict=True))


def classification_rows(report: ClassReport, names: tuple[str, ...]) -> Rows:
    """Return the scores of each class from a classifier's report."""
    counts = report.confusion
    rows: Rows = {}
    for number, name in enumerate(names):
        right, answered, present = (
            int(value) for value in (counts[number, number], counts[:, number].sum(), counts[number].sum())
        )
        rows[name] = {
            **with_interval("precision", right, answered),
            **with_interval("recall", right, present),
            "f1": float(report.f1[number]),
            "images": present,
        }
    return rows


def generation_rows(sides: Sides) -> Rows:
    """Return what is known of each class of a set of images.

    Frechet distance and accuracy of the images that were asked for as the class, if both sides have classes; the share
    of the images that the extractor takes for the class, beside that of the real ones, if it knows the same classes.
    """
    rows = _requested(sides)
    names = sides.class_names
    if not names or sides.fake.logits is None or sides.real.logits is None:
        return rows
    if sides.fake_class_names not in ((), names):
        return rows
    fake, real = predicted_counts(sides.fake), predicted_counts(sides.real)
    for number, name in enumerate(names):
        shares = with_interval("share", int(fake[number]), int(fake.sum()))
        rows.setdefault(name, {}).update({**shares, "share_of_data": float(real[number] / real.sum())})
    return rows


def alike(key: str, rows: Mapping[str, Mapping[str, float]]) -> float:
    """Return the p-value of the hypothesis that a score of images is the same in all classes; NaN for other scores."""
    known = [row for row in rows.values() if not math.isnan(row.get(key, math.nan)) and row.get("images")]
    if key not in _OF_IMAGES or not known:
        return math.nan
    total = torch.tensor([round(row["images"]) for row in known])
    right = torch.tensor([round(row[key] * row["images"]) for row in known])
    return homogeneity(torch.stack([right, total - right], dim=1))


def _requested(sides: Sides) -> Rows:
    """Return Frechet distance and accuracy of each class that images were asked for."""
    labels, logits = sides.fake.labels, sides.fake.logits
    if labels is None or sides.real.labels is None or not sides.fake_class_names:
        return {}
    real, fake = sides.features
    try:
        distances = intra_class_frechet(real, sides.real.labels, fake, labels, len(sides.fake_class_names)).distances
    except UserError:
        return {}
    rows: Rows = {
        name: {"frechet_distance": float(distances[number])} for number, name in enumerate(sides.fake_class_names)
    }
    if logits is not None and sides.class_names == sides.fake_class_names:
        right: Tensor = logits.argmax(1) == labels
        for number, name in enumerate(sides.fake_class_names):
            of_class = right[labels == number]
            rows[name] |= {**with_interval("accuracy", int(of_class.sum()), len(of_class)), "images": len(of_class)}
    return rows
