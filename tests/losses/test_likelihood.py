import math

import pytest
import torch
from torch.distributions import Normal

from aigc_lightning.losses.likelihood import (
    LIKELIHOODS,
    NUM_COMPONENTS,
    bernoulli,
    discretised_logistic,
    gaussian,
    logistic_mixture,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def levels() -> torch.Tensor:
    """Return all 256 levels as images of one pixel, (256, 1, 1, 1)."""
    return (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(-1, 1, 1, 1)


def test_gaussian_agrees_with_torch():
    images, means, log_scales = noise(3, 2, 4, 5), noise(3, 2, 4, 5, seed=1), noise(3, 2, 4, 5, seed=2)
    found = gaussian(images, torch.cat([means, log_scales], dim=1))
    torch.testing.assert_close(found, Normal(means, log_scales.exp()).log_prob(images).flatten(1).sum(1))


def test_bernoulli_of_black_white_and_grey():
    logit = math.log(3)  # white with probability 3/4
    images = torch.tensor([-1.0, 1.0, 0.0]).view(3, 1, 1, 1)
    found = bernoulli(images, torch.full_like(images, logit))
    expected = torch.tensor([math.log(1 / 4), math.log(3 / 4), (math.log(1 / 4) + math.log(3 / 4)) / 2])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("log_scale", [-6.9, -4.0, -2.0, 0.0, 3.0])
def test_the_256_levels_of_a_pixel_have_probabilities_that_sum_to_one(log_scale):
    output = torch.cat([noise(NUM_COMPONENTS), noise(NUM_COMPONENTS, seed=1), torch.full((NUM_COMPONENTS,), log_scale)])
    found = logistic_mixture(levels(), output.view(1, -1, 1, 1).expand(256, -1, 1, 1))
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("num_levels", [2, 4, 256])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 4.0])
@pytest.mark.parametrize("mean", [-1.5, -0.2, 0.99])
def test_discretised_logistic_sums_to_one_over_any_number_of_levels(num_levels, log_scale, mean):
    values = torch.linspace(-1, 1, num_levels, dtype=torch.float64)
    parameters = torch.tensor([mean, log_scale], dtype=torch.float64)
    found = discretised_logistic(values, parameters[0], parameters[1], num_levels=num_levels)
    assert abs(found.exp().sum().item() - 1) < 1e-12


def test_a_logistic_level_is_the_mass_of_its_interval():
    mean, log_scale = 0.2, -2.0
    scales = torch.full((NUM_COMPONENTS,), log_scale)
    output = torch.cat([torch.zeros(NUM_COMPONENTS), torch.full((NUM_COMPONENTS,), mean), scales]).double()
    level = levels()[150]
    found = logistic_mixture(level[None], output.view(1, -1, 1, 1))

    def mass_below(x: float) -> float:
        return 1 / (1 + math.exp(-(x - mean) / math.exp(log_scale)))

    expected = mass_below(level.item() + 1 / 255) - mass_below(level.item() - 1 / 255)
    assert found.exp().item() == pytest.approx(expected, rel=1e-6)


def test_the_channels_of_a_pixel_share_their_component():
    """Two components, red or blue: purple, which neither makes, is improbable."""
    logits = torch.full((NUM_COMPONENTS,), -50.0)
    logits[:2] = 0.0
    means = torch.zeros(NUM_COMPONENTS, 3)
    means[0], means[1] = torch.tensor([0.5, -0.5, -0.5]), torch.tensor([-0.5, -0.5, 0.5])
    output = torch.cat([logits, means.flatten(), torch.full((3 * NUM_COMPONENTS,), -4.0)]).view(1, -1, 1, 1)
    red, purple = (
        logistic_mixture(torch.tensor(color).view(1, 3, 1, 1), output).item()
        for color in ([0.5, -0.5, -0.5], [0.5, -0.5, 0.5])
    )
    assert red > purple + 20


def test_far_pixels_have_finite_values_and_slopes():
    for log_scale in (-50.0, 0.0, 20.0):
        output = torch.zeros(2, 3 * NUM_COMPONENTS, 1, 1)
        output[:, NUM_COMPONENTS : 2 * NUM_COMPONENTS] = 100.0
        output[:, 2 * NUM_COMPONENTS :] = log_scale
        output.requires_grad_()
        found = logistic_mixture(torch.tensor([-1.0, 0.3]).view(2, 1, 1, 1), output)
        found.sum().backward()
        assert found.isfinite().all() and output.grad is not None and output.grad.isfinite().all()


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shapes_and_range_of_the_means(name, channels):
    likelihood = LIKELIHOODS[name]
    extra = channels if name == "gaussian" else 0  # the scales
    output = 3 * noise(2, likelihood.num_channels(channels) + extra, 4, 5)
    images = noise(2, channels, 4, 5).clamp(-1, 1)
    mean = likelihood.mean(output)
    assert mean.shape == images.shape and mean.abs().max() <= 1
    assert likelihood.log_likelihood(images, output).shape == (2,)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_an_image_is_most_probable_where_its_mean_is(name):
    target = torch.full((1, 1, 3, 3), 0.5)
    likelihood = LIKELIHOODS[name]
    output = torch.zeros(1, likelihood.num_channels(1) + (name == "gaussian"), 3, 3)
    if name == "logistic_mixture":
        output[:, 2 * NUM_COMPONENTS :] = -2.0
    output.requires_grad_()
    for _ in range(1000):
        (slope,) = torch.autograd.grad(likelihood.log_likelihood(target, output).sum(), output)
        slope[:, likelihood.num_channels(1) :] = 0  # keep the Gaussian's scale
        output = (output + 0.05 * slope).detach().requires_grad_()
    torch.testing.assert_close(likelihood.mean(output), target, atol=0.03, rtol=0)
