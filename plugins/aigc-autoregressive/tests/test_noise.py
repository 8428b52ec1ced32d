import math

import numpy as np
import pytest
import torch
from aigc_lightning.core import keyed

from aigc_autoregressive.levels import from_tokens, to_images, to_levels, to_tokens
from aigc_autoregressive.noise import gumbel, to_gumbel, to_logistic, uniform


def test_uniform_equals_the_framework_s_keyed_numbers():
    seeds, positions = [0, 5, 2**64 - 1], [0, 9, 70000]
    expected = keyed.uniform(np.array(seeds, np.uint64)[:, None, None], np.array(positions)[:, None], np.arange(100))
    assert np.array_equal(uniform(seeds, positions, 100).numpy(), expected)


def test_noise_depends_on_seed_and_position_alone():
    together = gumbel([3, 4, 5], range(10), 7)
    assert torch.equal(gumbel([4], [8], 7)[0, 0], together[1, 8])
    assert len(together.flatten().unique()) == together.numel()


def test_gumbel_and_logistic_noise_have_their_distributions():
    numbers = uniform(range(100), range(100), 20).flatten()
    points = torch.linspace(-3, 5, 33, dtype=torch.float64)
    for noise, cumulative in [(to_gumbel(numbers), (-(-points).exp()).exp()), (to_logistic(numbers), points.sigmoid())]:
        shares = (noise[:, None] <= points).double().mean(0)
        assert (shares - cumulative).abs().max() < 1.63 / math.sqrt(len(numbers))  # Kolmogorov-Smirnov, 1 %


def test_noise_of_the_outermost_numbers_is_finite():
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert to_gumbel(ends).isfinite().all()
    assert to_logistic(ends).isfinite().all()


@pytest.mark.parametrize("num_levels", [2, 4, 256])
def test_levels_and_images_are_each_other_s_inverse(num_levels):
    levels = torch.arange(num_levels)
    images = to_images(levels, num_levels)
    assert images[0] == -1 and images[-1] == 1
    assert torch.equal(to_levels(images, num_levels), levels)
    assert torch.equal(to_levels(torch.tensor([-2.0, 2.0]), num_levels), torch.tensor([0, num_levels - 1]))


def test_tokens_go_row_by_row_with_a_pixel_s_channels_together():
    levels = torch.arange(12).view(1, 2, 3, 2)  # two channels of three rows and two columns
    images = to_images(levels, 12)
    tokens = to_tokens(images, 12)
    assert tokens.tolist() == [[0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]]
    assert torch.equal(from_tokens(tokens, (2, 3, 2), 12), images)
