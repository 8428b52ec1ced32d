"""Scores by class: of a classifier, and of class-conditional samples.

Class-conditional accuracy is `accuracy` of the generated images' logits against the classes asked for (Ravuri, Vinyals,
Classification Accuracy Score for Conditional Generative Models, NeurIPS 2019, is its stronger relative). Intra-class
Frechet distance: Miyato, Koyama, cGANs with Projection Discriminator, ICLR 2018, section 5.
Shapes: N and M samples, D features, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.confusion import ClassScores, class_scores, confusion_counts
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.moments import Moments


class ClassReport(NamedTuple):
    """Scores of a classifier; the tensors have one entry per class and are NaN for classes that do not occur."""

    scores: ClassScores  # accuracy, and macro averages
    precision: Tensor  # float64 (K,)
    recall: Tensor  # float64 (K,)
    f1: Tensor  # float64 (K,)
    confusion: Tensor  # int64 (K, K); row: true class, column: predicted class


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Return the share of correct predictions.

    Args:
        predicted: logits (N, K), or classes (N,).
        labels: int64 (N,).

    Examples:
        >>> accuracy(torch.tensor([2, 0, 1, 1]), torch.tensor([2, 0, 1, 0]))
        0.75
    """
    return (_answers(predicted) == labels).double().mean().item()


def class_report(predicted: Tensor, labels: Tensor, num_classes: int) -> ClassReport:
    """Return all scores of a classifier's predictions.

    Args:
        predicted: logits (N, K), or classes (N,).
        labels: int64 (N,).
        num_classes: K.
    """
    counts = confusion_counts(_answers(predicted), labels, num_classes)
    right, answered, present = (value.double() for value in (counts.diagonal(), counts.sum(dim=0), counts.sum(dim=1)))
    return ClassReport(
        class_scores(counts), right / answered, right / present, 2 * right / (answered + present), counts
    )


class IntraClassFrechet(NamedTuple):
    """Frechet distances within classes."""

    mean: float  # over the classes that both sides have
    distances: Tensor  # float64 (K,); NaN for classes with fewer than two images on a side


def intra_class_frechet(
    real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor, num_classes: int
) -> IntraClassFrechet:
    """Return the Frechet distance of the real to the generated images of each class.

    A class has few images, and few images bias the distance upwards: compare only at equal numbers.

    Args:
        real: features (N, D).
        real_labels: int64 (N,).
        fake: features (M, D).
        fake_labels: int64 (M,), the classes asked for.
        num_classes: K.

    Raises:
        UserError: no class has two images on both sides.
    """
    distances = torch.full((num_classes,), torch.nan, dtype=torch.float64)
    for label in range(num_classes):
        sides = [Moments.of(values[of == label]) for values, of in ((real, real_labels), (fake, fake_labels))]
        if min(side.count for side in sides) > 1:
            distances[label] = frechet_distance(*sides)
    if distances.isnan().all():
        raise UserError("No class has two real and two generated images.", "Take more images.")
    return IntraClassFrechet(distances.nanmean().item(), distances)


def _answers(predicted: Tensor) -> Tensor:
    return predicted.argmax(dim=1) if predicted.ndim == 2 else predicted
