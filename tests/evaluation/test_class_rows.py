"""Scores by class with intervals, and the gap between the best and the worst."""

import math

import pytest
import torch

from aigc_lightning.evaluation.bank import FeatureBank
from aigc_lightning.evaluation.class_rows import alike, classification_rows, generation_rows
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report import gap_lines
from aigc_lightning.evaluation.scores import Sides, distribution_scores
from aigc_lightning.metrics.classes import class_report
from aigc_lightning.metrics.shares import wilson_interval


def bank(predicted, labels=None):
    found = FeatureBank(2)
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 2).float()
    features = torch.randn(len(predicted), 2, generator=torch.Generator().manual_seed(len(predicted)))
    found.add(features, torch.arange(len(predicted)), logits, None if labels is None else torch.tensor(labels))
    return found


def section(rows):
    return Section("classification", {}, {}, classes=rows)


def test_a_classifier_s_shares_have_intervals_and_the_gap_is_tested():
    labels = torch.tensor([0] * 40 + [1] * 40)
    predicted = torch.tensor([0] * 40 + [1] * 20 + [0] * 20)
    rows = classification_rows(class_report(predicted, labels, 2), ("cat", "dog"))
    assert (rows["cat"]["recall"], rows["dog"]["recall"], rows["dog"]["images"]) == (1, 0.5, 40)
    assert (rows["dog"]["recall_low"], rows["dog"]["recall_high"]) == wilson_interval(20, 40)[1:]
    assert (rows["cat"]["precision_low"], rows["cat"]["precision_high"]) == wilson_interval(40, 60)[1:]
    assert alike("recall", rows) < 1e-5 and math.isnan(alike("f1", rows))
    lines = gap_lines(section(rows))
    assert any("Recall by class: best cat (100.00%), worst dog (50.00%), gap 50.00%; if all" in line for line in lines)
    assert not any("low" in line.lower().split(":")[0] or "images" in line.lower() for line in lines)


def test_classes_that_do_not_occur_have_no_scores():
    rows = classification_rows(class_report(torch.tensor([0, 0]), torch.tensor([0, 0]), 2), ("cat", "dog"))
    assert math.isnan(rows["dog"]["recall"]) and rows["dog"]["images"] == 0
    assert not any("dog" in line for line in gap_lines(section(rows)))


def test_the_shares_of_samples_are_compared_with_those_of_the_data_by_one_judge():
    sides = Sides(bank([0] * 50 + [1] * 50), bank([0] * 90 + [1] * 10), class_names=("cat", "dog"))
    rows = generation_rows(sides)
    assert rows["dog"]["share"] == pytest.approx(0.1) and rows["dog"]["share_of_data"] == 0.5
    assert rows["dog"]["share_high"] < 0.2
    scores = distribution_scores(sides, ["class_shares"]).values
    assert scores["class_share_distance"] == pytest.approx(0.4) and scores["class_share_p_value"] < 1e-8
    same = Sides(sides.real, bank([0] * 26 + [1] * 24), class_names=("cat", "dog"))
    assert distribution_scores(same, ["class_shares"]).values["class_share_p_value"] > 0.5


def test_a_judge_of_other_classes_says_nothing_about_shares():
    labels = [0] * 5 + [1] * 5
    sides = Sides(bank(labels, labels), bank(labels, labels), class_names=("a", "b"), fake_class_names=("cat", "dog"))
    assert set(generation_rows(sides)) == {"cat", "dog"} and "share" not in generation_rows(sides)["cat"]
    assert "class_shares" in distribution_scores(Sides(bank(labels), bank(labels))).left_out
