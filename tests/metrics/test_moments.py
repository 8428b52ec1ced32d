import numpy as np
import pytest
import torch

from aigc_lightning.metrics.moments import Moments


def rows(count, dimensions=7, seed=0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("parts", [[50], [1, 49], [20, 1, 1, 28], [10] * 5])
def test_the_moments_of_parts_added_or_merged_are_those_of_the_whole(parts):
    whole = rows(50)
    added = merged = Moments.empty(7)
    for part in whole.split(parts):
        added, merged = added.add(part), merged.merge(Moments.of(part))
    for moments in (added, merged):
        assert moments.count == 50
        np.testing.assert_allclose(moments.mean, whole.mean(dim=0), atol=1e-14)
        np.testing.assert_allclose(moments.covariance, np.cov(whole.numpy(), rowvar=False), atol=1e-14)


def test_a_mean_that_is_large_against_the_spread_costs_no_digits():
    whole = rows(3000)
    moments = Moments.empty(7)
    for part in (whole + 1e8).split(100):
        moments = moments.add(part)
    # Sums of squares in float64 are off by more than 1 here.
    np.testing.assert_allclose(moments.covariance, np.cov(whole.numpy(), rowvar=False), atol=2e-8)


def test_nothing_added_changes_nothing():
    moments = Moments.of(rows(5))
    for other in (moments.add(rows(0)), moments.merge(Moments.empty(7)), Moments.empty(7).merge(moments)):
        assert other.count == 5 and torch.equal(other.mean, moments.mean)
        np.testing.assert_allclose(other.scatter, moments.scatter, atol=1e-14)
    assert Moments.empty(7).merge(Moments.empty(7)).count == 0
