"""Membership inference against values computed by hand and by scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.membership import membership


def losses(seed, count, shift=0.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(shift, 1, count))


def test_the_area_is_that_of_scikit_learn_with_ties():
    members, others = losses(0, 80, -0.5).round(decimals=1), losses(1, 120).round(decimals=1)
    labels = np.repeat([1, 0], [80, 120])
    wanted = roc_auc_score(labels, -torch.cat([members, others]).numpy())
    assert membership(members, others).auc == pytest.approx(wanted, abs=1e-12)


def test_swapped_sides_mirror_the_area_and_keep_the_error():
    members, others = losses(0, 80, -0.5), losses(1, 120)
    one, other = membership(members, others), membership(others, members)
    assert one.auc + other.auc == pytest.approx(1) and one.stderr == pytest.approx(other.stderr)
    assert one.auc > 0.6 and one.low < one.auc < one.high


def test_by_hand():
    found = membership(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0]), false_alarms=0.5)
    assert found.auc == 0.75  # 1 < 2, 1 < 4, 3 < 4
    # Shares of the others above the members: 1 and .5; of the members below the others: .5 and 1.
    assert found.stderr == pytest.approx((0.125 / 2 + 0.125 / 2) ** 0.5)
    assert found.true_positives == 1  # below 4, the smallest loss but one half of the others


def test_the_interval_covers_one_half_as_often_as_it_says():
    covered = 0
    for trial in range(400):
        found = membership(losses(2 * trial, 60), losses(2 * trial + 1, 60))
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_few_false_alarms_leave_few_members():
    others = torch.arange(200.0)
    assert membership(torch.tensor([0.5, 1.5, 2.5, 150.0]), others).true_positives == 0.5  # two are below 2


@pytest.mark.parametrize(("members", "others"), [([1.0], [1.0, 2.0]), ([1.0, float("nan")], [1.0, 2.0])])
def test_too_few_or_broken_losses_are_refused(members, others):
    with pytest.raises(UserError, match=r"two training|not a number"):
        membership(torch.tensor(members), torch.tensor(others))
