import pytest
import torch

from aigc_lightning.metrics.sliced_wasserstein import random_directions, sliced_wasserstein, wasserstein_on_lines


def test_on_a_line_sorted_values_are_paired():
    real, fake = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[6.0], [1.0], [0.0]])
    assert wasserstein_on_lines(real, fake) == pytest.approx((0 + 0 + 1) / 3)


def test_in_one_dimension_every_direction_gives_the_distance_itself():
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[5.0], [6.0], [8.0]])
    assert sliced_wasserstein(real, fake) == pytest.approx(5.0)  # Villani's example: all of the mass moves by 5


def test_two_points_in_the_plane_are_apart_by_their_mean_shadow():
    # The shadow of a unit step on a random line is |cos| on average: 2 / pi.
    distance = sliced_wasserstein(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), num_projections=20_000)
    assert distance == pytest.approx(2 / torch.pi, abs=0.01)


def test_equal_sets_in_any_order_have_no_distance():
    points = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(points, points.flip(0)) == pytest.approx(0, abs=1e-6)


def test_it_is_symmetric_scales_with_the_points_and_depends_on_the_seed_alone():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(40, 6, generator=generator), torch.rand(40, 6, generator=generator)
    distance = sliced_wasserstein(real, fake)
    assert sliced_wasserstein(fake, real) == distance
    assert sliced_wasserstein(3 * real, 3 * fake) == pytest.approx(3 * distance, rel=1e-5)
    assert sliced_wasserstein(real, fake, seed=1) != distance


def test_directions_have_unit_length():
    assert torch.allclose(random_directions(30, 7).norm(dim=0), torch.ones(7))


def test_sets_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        sliced_wasserstein(torch.zeros(3, 2), torch.zeros(4, 2))
