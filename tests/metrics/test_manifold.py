import pytest
import torch
from torch_fidelity.metric_prc import calculate_precision_recall_full

from aigc_lightning.errors import UserError
from aigc_lightning.metrics import neighbours
from aigc_lightning.metrics.manifold import density_coverage, precision_recall
from aigc_lightning.metrics.neighbours import nearest, radii


@pytest.fixture(params=[7, 2048], ids=["small blocks", "one block"])
def _block(request, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", request.param)


def two_sets(num_real=60, num_fake=45, dimensions=16):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(num_real, dimensions, generator=generator)
    return real, 0.8 * torch.randn(num_fake, dimensions, generator=generator) + 0.2


def distances(a, b):
    """All distances, one pair at a time."""
    return torch.tensor([[(x.double() - y.double()).norm() for y in b] for x in a])


def brute_radii(points, k):
    return distances(points, points).sort(dim=1).values[:, k]


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_all_four_scores_are_those_of_a_brute_force_count(k):
    real, fake = two_sets()
    across = distances(fake, real)
    real_radii, fake_radii = brute_radii(real, k), brute_radii(fake, k)
    in_real = across <= real_radii
    precision = sum(any(row) for row in in_real.tolist()) / len(fake)
    recall = sum(any(row) for row in (fake_radii >= across.T).tolist()) / len(real)
    density = in_real.sum().item() / (k * len(fake))
    coverage = sum(any(column) for column in in_real.T.tolist()) / len(real)
    assert 0 < precision < 1 and 0 < recall < 1  # else the test would say little
    assert precision_recall(real, fake, k) == pytest.approx((precision, recall))
    assert density_coverage(real, fake, k) == pytest.approx((density, coverage))


def test_precision_and_recall_are_those_of_torch_fidelity():
    real, fake = two_sets(400, 300, 32)
    assert precision_recall(real, fake) == pytest.approx(calculate_precision_recall_full(fake, real, 3))


def test_equal_sets_and_far_sets():
    real, _ = two_sets()
    assert precision_recall(real, real.clone()) == (1, 1)
    assert density_coverage(real, real.clone()).coverage == 1
    assert precision_recall(real, real + 100) == (0, 0)
    assert density_coverage(real, real + 100) == (0, 0)


@pytest.mark.usefixtures("_block")
def test_nearest_neighbours_and_radii():
    real, fake = two_sets()
    expected = distances(fake, real).sort(dim=1)
    found, numbers = nearest(fake, real, 4)
    torch.testing.assert_close(found, expected.values[:, :4])
    assert torch.equal(numbers, expected.indices[:, :4])
    torch.testing.assert_close(radii(real, 3), brute_radii(real, 3))


def test_equal_vectors_have_no_distance_however_far_from_0_they_are():
    points = two_sets()[0] + 1000
    assert torch.equal(nearest(points, points)[0], torch.zeros(60, 1).double())
    doubled = torch.cat([points, points])
    assert torch.equal(radii(doubled, 1), torch.zeros(120).double())


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="one side has 3"):
        precision_recall(torch.randn(10, 2), torch.randn(3, 2))
    with pytest.raises(UserError, match="one side has 5"):
        density_coverage(torch.randn(5, 2), torch.randn(30, 2))
