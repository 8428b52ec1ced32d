"""Intervals and tests of shares against SciPy and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chi2_contingency

from aigc_lightning.metrics.shares import homogeneity, share_distance, wilson_interval


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (700, 1000)])
def test_the_interval_is_that_of_scipy(successes, trials):
    wanted = binomtest(successes, trials).proportion_ci(method="wilson")
    found = wilson_interval(successes, trials)
    assert found == pytest.approx((successes / trials, wanted.low, wanted.high), abs=1e-6)


def test_without_trials_there_is_no_share():
    assert all(map(math.isnan, wilson_interval(0, 0)))


def test_the_p_value_is_that_of_scipy_and_ignores_what_never_occurs():
    counts = np.array([[30, 20, 50], [40, 30, 20]])
    wanted = chi2_contingency(counts, correction=False).pvalue
    assert homogeneity(torch.from_numpy(counts)) == pytest.approx(wanted, rel=1e-9)
    empty = torch.tensor([[30, 0, 20, 50], [0, 0, 0, 0], [40, 0, 30, 20]])
    assert homogeneity(empty) == pytest.approx(wanted, rel=1e-9)
    assert math.isnan(homogeneity(torch.tensor([[3, 4]]))) and math.isnan(homogeneity(torch.tensor([[3], [4]])))


def test_equal_shares_are_rejected_as_often_as_the_level_says():
    random = np.random.default_rng(0)
    drawn = (random.multinomial(200, [0.2, 0.3, 0.5], 2) for _ in range(500))
    rejected = sum(homogeneity(torch.from_numpy(counts)) < 0.05 for counts in drawn)
    assert 0.02 < rejected / 500 < 0.08


def test_the_distance_is_the_share_that_changes_its_class():
    assert share_distance(torch.tensor([50, 50]), torch.tensor([5, 5])) == 0
    assert share_distance(torch.tensor([1, 0]), torch.tensor([0, 7])) == 1
    assert share_distance(torch.tensor([6, 4]), torch.tensor([4, 6])) == pytest.approx(0.2)
