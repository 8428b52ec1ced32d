import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.kernel_distance import kernel_distance


def two_sets(num_real=300, num_fake=300, dimensions=64):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(num_real, dimensions, generator=generator).abs()
    return real, 1.1 * torch.randn(num_fake, dimensions, generator=generator).abs() + 0.05


def test_on_whole_sets_it_is_that_of_torch_fidelity():
    real, fake = two_sets()
    theirs = kid_features_to_metric(fake, real, kid_subsets=1, kid_subset_size=300, verbose=False)
    found = kernel_distance(real, fake, subsets=1, subset_size=300)
    assert found.mean == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-5)
    assert found.std == 0


def test_on_subsets_it_agrees_with_torch_fidelity_within_the_scatter_of_subsets():
    real, fake = two_sets(2000, 1800)
    options = {"kid_subsets": 50, "kid_subset_size": 200, "verbose": False}
    theirs = kid_features_to_metric(fake, real, **options)
    found = kernel_distance(real, fake, subsets=50, subset_size=200)
    deviation = theirs["kernel_inception_distance_std"]
    assert found.mean == pytest.approx(theirs["kernel_inception_distance_mean"], abs=4 * deviation / 50**0.5)
    assert found.std == pytest.approx(deviation, rel=0.5)


def test_float32_features_cost_no_digits_that_matter():
    real, fake = two_sets(dimensions=2048)
    exact = kernel_distance(real.double(), fake.double(), subsets=3).mean
    assert kernel_distance(real, fake, subsets=3).mean == pytest.approx(exact, abs=1e-5)


def test_it_is_unbiased_so_equal_sources_have_values_on_both_sides_of_0():
    generator = torch.Generator().manual_seed(1)
    values = [kernel_distance(*torch.randn(2, 40, 8, generator=generator), subsets=1).mean for _ in range(200)]
    mean = sum(values) / len(values)
    deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    assert min(values) < 0 < max(values)
    assert abs(mean) < 4 * deviation / len(values) ** 0.5


def test_it_depends_on_the_seed_and_on_nothing_else():
    real, fake = two_sets()
    first = kernel_distance(real, fake, subsets=5, subset_size=50)
    torch.manual_seed(7)
    assert kernel_distance(real, fake, subsets=5, subset_size=50) == first
    assert kernel_distance(real, fake, subsets=5, subset_size=50, seed=1) != first


def test_one_image_is_refused():
    with pytest.raises(UserError, match="2 images"):
        kernel_distance(torch.zeros(1, 3), torch.zeros(5, 3))
