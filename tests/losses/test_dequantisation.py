import math

import pytest
import torch

from aigc_lightning.losses.dequantisation import dequantised, log_probability
from aigc_lightning.metrics.likelihood import bits_per_dim


def test_the_ranges_of_levels_meet_and_are_filled_evenly():
    levels = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(1, 1, 16, 16)
    steps = (dequantised(levels.expand(40, -1, -1, -1), range(40)) - levels) * 127.5
    assert steps.abs().max() <= 0.5
    assert steps.mean().abs() < 0.01 and steps.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)


def test_the_noise_of_an_image_depends_on_its_seed_alone():
    images = torch.zeros(3, 1, 4, 4)
    both = dequantised(images, [5, 6, 5])
    assert torch.equal(both[0], both[2]) and not torch.equal(both[0], both[1])
    assert torch.equal(dequantised(images[:1], [6])[0], both[1])


def test_a_uniform_density_over_the_levels_has_8_bits_per_dimension():
    log_density = torch.full((2,), -12 * math.log(256 / 127.5), dtype=torch.float64)
    assert bits_per_dim(log_probability(log_density, 12), 12).tolist() == pytest.approx([8, 8])


def test_the_mean_over_the_noise_is_at_most_the_log_probability():
    """A normal density of one value: the probability of a level is known."""
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 0.01)
    level = torch.full((4000, 1, 1, 1), 1 / 127.5, dtype=torch.float64)
    found = log_probability(normal.log_prob(dequantised(level, range(4000))).flatten(1).sum(1), 1).mean().item()
    exact = (normal.cdf(level[0] + 1 / 255) - normal.cdf(level[0] - 1 / 255)).log().item()
    assert exact - 0.1 < found < exact
