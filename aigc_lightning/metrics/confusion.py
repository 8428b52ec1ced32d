"""Scores of a classifier from its confusion matrix, which can be summed over batches and processes.

Shapes: N samples, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ClassScores(NamedTuple):
    """Scores in [0, 1]; precision, recall and F1 are means over the classes that occur (macro averages)."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def confusion_counts(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the confusion matrix.

    Args:
        predictions: int64 (N,), the predicted classes.
        labels: int64 (N,), the true classes.
        num_classes: K.

    Returns:
        int64 (K, K); row: true class, column: predicted class.
    """
    return torch.bincount(labels * num_classes + predictions, minlength=num_classes**2).view(num_classes, num_classes)


def class_scores(counts: Tensor) -> ClassScores:
    """Return the scores of a matrix of `confusion_counts` (K, K).

    A class that is never predicted has precision 0; a class with neither labels nor predictions does not count.
    """
    counts = counts.double()
    right, answered, present = counts.diagonal(), counts.sum(dim=0), counts.sum(dim=1)
    occurs = (answered + present) > 0
    precision = (right / answered.clamp(min=1))[occurs]
    recall = (right / present.clamp(min=1))[occurs]
    f1 = (2 * right / (answered + present).clamp(min=1))[occurs]
    accuracy = right.sum() / counts.sum().clamp(min=1)
    return ClassScores(*(score.item() for score in (accuracy, precision.mean(), recall.mean(), f1.mean())))
