"""Averages of any width, made from snapshots of two: against the true averages of simulated trainings."""

from itertools import pairwise

import numpy as np
import pytest

from aigc_lightning.core.ema import Ema, exponent_of
from aigc_lightning.inference.posthoc_ema import coefficients, product

STEPS, EVERY, WIDTHS = 4000, 250, (0.05, 0.10)


def trajectory(kind):
    """Return the weights (steps, 5) of a training."""
    random = np.random.default_rng(3)
    if kind == "random walk":
        return np.cumsum(random.normal(size=(STEPS, 5)) / np.sqrt(STEPS), axis=0)
    return random.normal(size=(1, 5)) * (1 - np.exp(-np.arange(STEPS) / 500))[:, None] + random.normal(size=(STEPS, 5))


def true_average(weights, width, step):
    """Return the power-function average in which the weights of a step hold for the time up to the next."""
    edges = (np.arange(step + 1) / step) ** (exponent_of(width) + 1)
    return np.diff(edges) @ weights[:step]


def stored_averages(weights, every=EVERY):
    """Return the profiles and averages that a training saves, updated step by step."""
    ema = Ema(relative_widths=",".join(map(str, WIDTHS)))
    averages, profiles, found = np.zeros((2, weights.shape[1])), [], []
    for step, now in enumerate(weights):
        kept = np.array(ema.kept(step, 1))[:, None]
        averages = kept * averages + (1 - kept) * now
        if (step + 1) % every == 0:
            profiles += [(exponent, step + 1.0) for exponent in ema.exponents]
            found += list(averages)
    return profiles, np.array(found)


def test_the_product_of_profiles_is_their_integral():
    times = (np.arange(200_000) + 0.5) / 200_000 * 7
    profiles = [(0.0, 7.0), (6.9372, 7.0), (16.9722, 3.0), (2.5, 4.0)]
    for one in profiles:
        for other in profiles:
            values = [np.where(times < end, (g + 1) * times**g / end ** (g + 1), 0) for g, end in (one, other)]
            assert product(one, other) == pytest.approx(np.mean(values[0] * values[1]) * 7, rel=1e-3)
    assert product((600.0, 1e9), (600.0, 1.0)) == 0 and np.isfinite(product((600.0, 1e9), (600.0, 1e9)))


@pytest.mark.parametrize("kind", ["random walk", "noise around a curve"])
@pytest.mark.parametrize("width", [0.04, 0.06, 0.08, 0.12, 0.2])
def test_an_average_of_another_width(kind, width):
    weights = trajectory(kind)
    profiles, averages = stored_averages(weights)
    wanted = (exponent_of(width), float(STEPS))
    factors, missing = coefficients(profiles, wanted)
    error = factors @ averages - true_average(weights, width, STEPS)
    # Cauchy and Schwarz: the error is the integral of the weights times the difference of the profiles.
    bound = missing * np.sqrt(product(wanted, wanted)) * np.linalg.norm(weights, axis=0)
    assert np.all(np.abs(error) <= bound + 1e-9)
    if width < 0.2:  # which is far from the stored ones
        assert missing < 0.02 and np.abs(error).max() < 2e-3


def test_more_snapshots_are_nearer():
    missing = []
    for every in (2000, 1000, 500, 250):
        profiles, _ = stored_averages(np.zeros((STEPS, 1)), every)
        missing.append(coefficients(profiles, (exponent_of(0.08), float(STEPS)))[1])
    assert all(fewer > more for fewer, more in pairwise(missing)) and missing[0] > 10 * missing[-1]


def test_a_stored_average_is_itself():
    profiles, averages = stored_averages(trajectory("random walk"))
    for number in (0, 13, len(profiles) - 1):
        factors, missing = coefficients(profiles, profiles[number])
        assert missing == 0 and (factors @ averages == averages[number]).all()
    # And what the equations say of it, where it is not looked up.
    near = (profiles[-1][0] * (1 + 1e-12), profiles[-1][1])
    factors, missing = coefficients(profiles, near)
    np.testing.assert_allclose(factors @ averages, averages[-1], rtol=1e-6)
    assert missing < 1e-6
