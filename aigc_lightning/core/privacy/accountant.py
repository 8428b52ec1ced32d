"""What steps with subsampled Gaussian noise spend of a privacy budget.

Papers: Mironov, Talwar and Zhang, Renyi Differential Privacy of the Sampled Gaussian Mechanism, 2019,
https://arxiv.org/abs/1908.10530 (section 3.3; the integral is computed numerically for every order); Balle et al.,
Hypothesis Testing Interpretations and Renyi Differential Privacy, AISTATS 2020, https://arxiv.org/abs/1905.09982
(theorem 21: from Renyi divergence to epsilon and delta).
The neighbours are datasets that differ by one sample added or removed. The noise multiplier is the standard deviation
of the noise, divided by the largest norm of a sample's gradient.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

#: Orders of the divergence among which the tightest bound is chosen.
_ORDERS = np.concatenate([1 + np.arange(1, 100) / 10, np.arange(12, 64)])
_TAIL = 12.0  # standard deviations beyond the outermost centres at which the integral is cut off
_POINTS = 8.0  # of the integral per length on which the integrand changes; the error falls exponentially with it
_LEAST_NOISE, _MOST_NOISE = 0.2, 1e4
_PRECISION = 1e-6  # relative, of the noise multiplier


def epsilon_spent(sampling_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """Return epsilon after a number of steps.

    Args:
        sampling_rate: probability with which a step takes each sample, in (0, 1].
        noise_multiplier: positive.
        steps: 0 or more.
        delta: in (0, 1).
    """
    if steps == 0:
        return 0.0
    spent = steps * _divergences(sampling_rate, noise_multiplier)
    bounds = spent - (np.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1) + np.log1p(-1 / _ORDERS)
    return max(0.0, float(bounds.min()))


def noise_multiplier(sampling_rate: float, steps: int, epsilon: float, delta: float) -> float:
    """Return the smallest noise multiplier, of at least 0.2, with which the steps spend at most epsilon.

    Args:
        sampling_rate: probability with which a step takes each sample, in (0, 1].
        steps: 1 or more.
        epsilon: positive.
        delta: in (0, 1).

    Raises:
        ValueError: no noise up to a multiplier of 10,000 is enough.
    """
    low, high = _LEAST_NOISE, _MOST_NOISE
    if epsilon_spent(sampling_rate, low, steps, delta) <= epsilon:
        return low
    if epsilon_spent(sampling_rate, high, steps, delta) > epsilon:
        raise ValueError(f"epsilon {epsilon} cannot be reached with delta {delta}")
    while high > low * (1 + _PRECISION):
        middle = (low * high) ** 0.5
        if epsilon_spent(sampling_rate, middle, steps, delta) <= epsilon:
            high = middle
        else:
            low = middle
    return high


@cache
def _divergences(rate: float, noise: float) -> npt.NDArray[np.float64]:
    """Return the Renyi divergence of one step at each of the orders."""
    if rate >= 1:
        return _ORDERS / (2 * noise**2)
    return np.array([_divergence(rate, noise, order) for order in _ORDERS.tolist()])


def _divergence(rate: float, noise: float, order: float) -> float:
    """Return log E[((1 - q) + q mu_1 / mu_0)^order] / (order - 1) under mu_0 = N(0, noise^2), with mu_1 = N(1, ...)."""
    spacing = min(noise, noise**2) / _POINTS
    places = np.arange(-_TAIL * noise, order + _TAIL * noise, spacing)
    ratio = np.logaddexp(np.log1p(-rate), np.log(rate) + (2 * places - 1) / (2 * noise**2))
    density = -(places**2) / (2 * noise**2) - np.log(noise * np.sqrt(2 * np.pi))
    return float(logsumexp(order * ratio + density) + np.log(spacing)) / (order - 1)
