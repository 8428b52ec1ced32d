import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.inception_score import inception_score


def logits(count=103, classes=12):
    return 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("splits", [1, 5])
def test_in_the_same_order_it_is_that_of_torch_fidelity(splits):
    values = logits(100)
    in_our_order = values[keyed.permutation(100, 0)]
    theirs = isc_features_to_metric(in_our_order, splits=splits, shuffle=False)
    found = inception_score(values, splits=splits)
    assert found.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert found.std == pytest.approx(theirs["inception_score_std"], abs=1e-9)


def test_its_limits():
    sure = torch.eye(8).repeat(10, 1) * 1e4  # one class each, all classes equally often
    assert inception_score(sure, splits=1).mean == pytest.approx(8)
    assert inception_score(torch.zeros(50, 8)).mean == pytest.approx(1)


def test_it_depends_on_the_seed_and_small_samples_are_refused():
    assert inception_score(logits()) == inception_score(logits()) != inception_score(logits(), seed=1)
    with pytest.raises(UserError, match="10 parts"):
        inception_score(logits(9))
