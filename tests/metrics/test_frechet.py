import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.moments import Moments

SIZES = [
    *((64, 40, 50), (64, 200, 300), (64, 40, 300)),
    *((512, 300, 200), (512, 1500, 600), (512, 1500, 300)),
    pytest.param(2048, 1000, 900, marks=pytest.mark.slow),
    pytest.param(2048, 3000, 2500, marks=pytest.mark.slow),
    pytest.param(2048, 1000, 3000, marks=pytest.mark.slow),
]


def two_sets(dimensions, num_real, num_fake):
    """Features that are correlated and not negative, as those of networks are."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(dimensions, dimensions, generator=generator) / dimensions**0.5
    real = (torch.randn(num_real, dimensions, generator=generator) @ mix).abs()
    return real, (1.1 * torch.randn(num_fake, dimensions, generator=generator) @ mix + 0.1).abs()


@pytest.mark.parametrize(("dimensions", "num_real", "num_fake"), SIZES)
def test_it_agrees_with_torch_fidelity_and_scipy_with_more_and_with_fewer_samples_than_dimensions(
    dimensions, num_real, num_fake
):
    real, fake = two_sets(dimensions, num_real, num_fake)
    a, b = Moments.of(real), Moments.of(fake)
    found = frechet_distance(a, b)
    statistics = [fid_features_to_statistics(features) for features in (real, fake)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    rest = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()
    assert found == pytest.approx(theirs, abs=1e-3)
    assert found == pytest.approx(rest.item() - 2 * np.trace(root).real, abs=1e-3)
    assert frechet_distance(b, a) == pytest.approx(found, abs=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-3)


def test_on_a_line_it_is_the_difference_of_means_and_of_deviations():
    a, b = Moments.of(torch.tensor([[0.0], [2.0]])), Moments.of(torch.tensor([[10.0], [16.0]]))
    # Deviations sqrt(2) and sqrt(18); (13 - 1)^2 + (sqrt(18) - sqrt(2))^2 = 144 + 8.
    assert frechet_distance(a, b) == pytest.approx(152)


def test_a_dead_feature_is_no_obstacle():
    real, fake = two_sets(8, 50, 60)
    real[:, 3], fake[:, 3] = 0, 0
    kept = [0, 1, 2, 4, 5, 6, 7]
    expected = frechet_distance(Moments.of(real[:, kept]), Moments.of(fake[:, kept]))
    assert frechet_distance(Moments.of(real), Moments.of(fake)) == pytest.approx(expected, abs=1e-6)


def test_a_set_without_any_variety_has_a_distance():
    real = two_sets(8, 50, 60)[0]
    a, b = Moments.of(real), Moments.of(torch.ones(40, 8))
    expected = (a.mean - 1).square().sum() + a.covariance.trace()
    assert frechet_distance(a, b) == pytest.approx(expected.item()) == frechet_distance(b, a)
    assert frechet_distance(b, b) == 0


def test_too_few_images_and_infinite_features_are_refused():
    real = Moments.of(torch.randn(5, 3))
    with pytest.raises(UserError, match="one side has 1"):
        frechet_distance(real, Moments.of(torch.randn(1, 3)))
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(real, Moments.of(torch.full((3, 3), torch.inf)))
