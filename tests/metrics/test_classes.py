import math

import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.classes import accuracy, class_report, intra_class_frechet
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.moments import Moments


def answers(count=200, classes=5):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes - 1, (count,), generator=generator)  # the last class does not occur
    logits = torch.randn(count, classes, generator=generator)
    logits[:, -1] = -100
    logits[torch.arange(count), labels] += 1
    return logits, labels


def test_the_report_is_that_of_scikit_learn():
    logits, labels = answers()
    report = class_report(logits, labels, 5)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, logits.argmax(1), labels=range(4))
    for found, expected in ((report.precision, precision), (report.recall, recall), (report.f1, f1)):
        assert found[:4].tolist() == pytest.approx(expected.tolist()) and found[4].isnan()
    assert report.scores[1:] == pytest.approx((precision.mean(), recall.mean(), f1.mean()))
    assert report.confusion.tolist() == confusion_matrix(labels, logits.argmax(1), labels=range(5)).tolist()


def test_accuracy_takes_logits_and_classes():
    logits, labels = answers()
    right = (logits.argmax(1) == labels).sum().item()
    assert accuracy(logits, labels) == accuracy(logits.argmax(1), labels) == right / 200
    assert class_report(logits, labels, 5).scores.accuracy == pytest.approx(right / 200)


def test_intra_class_distances_are_those_of_the_classes_and_miss_what_is_missing():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 60, 4, generator=generator)
    labels = torch.arange(60) % 3
    fake_labels = torch.where(labels == 2, 1, labels)
    found = intra_class_frechet(real, labels, fake, fake_labels, 3)
    expected = [frechet_distance(Moments.of(real[labels == k]), Moments.of(fake[fake_labels == k])) for k in (0, 1)]
    assert found.distances[:2].tolist() == pytest.approx(expected) and math.isnan(found.distances[2])
    assert found.mean == pytest.approx(sum(expected) / 2)
    with pytest.raises(UserError, match="No class"):
        intra_class_frechet(real, labels, fake, torch.full((60,), 7), 3)
