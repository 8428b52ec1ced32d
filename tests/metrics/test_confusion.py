import numpy as np
import pytest
import torch
from sklearn import metrics

from aigc_lightning.metrics.confusion import class_scores, confusion_counts


def drawn(num_classes, count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (count,), generator=generator)
    guesses = torch.randint(num_classes, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.6, labels, guesses), labels


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_scores_agree_with_scikit_learn(num_classes):
    predictions, labels = drawn(num_classes)
    counts = confusion_counts(predictions, labels, num_classes)
    assert np.array_equal(counts.numpy(), metrics.confusion_matrix(labels, predictions))
    scores = class_scores(counts)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, predictions, average="macro")
    assert scores == pytest.approx((metrics.accuracy_score(labels, predictions), precision, recall, f1), abs=1e-12)


def test_absent_and_never_answered_classes():
    labels, predictions = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 0, 3, 3])  # of five: 2 and 4 do not occur
    scores = class_scores(confusion_counts(predictions, labels, 5))
    wanted = metrics.precision_recall_fscore_support(labels, predictions, average="macro", zero_division=0)[:3]
    assert scores == pytest.approx((0.75, *wanted), abs=1e-12)


def test_counts_of_parts_add_up():
    predictions, labels = drawn(4)
    parts = [confusion_counts(p, t, 4) for p, t in zip(predictions.split(70), labels.split(70), strict=True)]
    assert torch.equal(torch.stack(parts).sum(0), confusion_counts(predictions, labels, 4))
