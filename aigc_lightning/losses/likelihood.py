"""Likelihoods of images, given a decoder's output for each pixel.

A likelihood consists of a number of channels, a log-likelihood and a mean. The log-likelihoods are in nats and summed
over an image's C * H * W values. They measure different things (a density, an intensity as a probability, the
probability of one of 256 levels), so they are not comparable with one another.

Shapes: B batch, C image channels, H and W height and width in pixels, K components of a mixture, D decoder channels.
Images lie in [-1, 1].
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

#: Components of a logistic mixture.
NUM_COMPONENTS = 5
_SMALLEST_LOG_SCALE = -7.0  # a quarter of a grey level: at smaller scales the gradients become too large to learn from


class Likelihood(NamedTuple):
    """One kind of pixel distribution.

    Attributes:
        num_channels: output channels of the network for images of C channels, not counting the scales of a Gaussian.
        log_likelihood: of images (B, C, H, W), given the decoder's output (B, D, H, W); in nats, (B,).
        mean: mean image (B, C, H, W) in [-1, 1], given the decoder's output.
    """

    num_channels: Callable[[int], int]
    log_likelihood: Callable[[Tensor, Tensor], Tensor]
    mean: Callable[[Tensor], Tensor]


def gaussian(images: Tensor, output: Tensor) -> Tensor:
    """Return log densities (B,) of images whose values are distributed as N(mean, scale^2).

    Args:
        images: (B, C, H, W).
        output: (B, 2C, H, W), the means and the log scales (logarithms of the standard deviations).
    """
    means, log_scales = output.chunk(2, dim=1)
    errors = (images - means) * torch.exp(-log_scales)
    return -(0.5 * errors.square() + log_scales + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def bernoulli(images: Tensor, output: Tensor) -> Tensor:
    """Return the negative cross-entropy (B,) between intensities, (x + 1) / 2, and probabilities of white.

    It is a log-probability for black and white images, and the usual surrogate for grey ones.

    Args:
        images: (B, C, H, W).
        output: (B, C, H, W) logits of white.
    """
    shares = (images + 1) / 2
    return -functional.binary_cross_entropy_with_logits(output, shares, reduction="none").flatten(1).sum(1)


def logistic_mixture(images: Tensor, output: Tensor) -> Tensor:
    """Return log-probabilities (B,) of images of 256 levels under a mixture of K discretised logistic distributions.

    The channels of a pixel share its component, and are independent given it. A value between two levels gets the
    probability of the interval of one level around it.
    Source: Salimans et al., ICLR 2017, equation 2, https://arxiv.org/abs/1701.05517; without the paper's dependence of
    the green and blue means on the preceding channels.

    Args:
        images: (B, C, H, W).
        output: (B, K + 2KC, H, W): logits of the components, then means and log scales of each one's channels.
    """
    logits, means, log_scales = _components(output, images.shape[1])
    levels = discretised_logistic(images.unsqueeze(1), means, log_scales)  # (B, K, C, H, W)
    mixed = torch.logsumexp(functional.log_softmax(logits, dim=1) + levels.sum(2), dim=1)
    return mixed.flatten(1).sum(1)


def discretised_logistic(values: Tensor, means: Tensor, log_scales: Tensor, num_levels: int = 256) -> Tensor:
    """Return the log-probability of each value: a logistic distribution's mass in the level around it.

    The lowest and highest levels extend to infinity, so the probabilities of all levels sum to 1.
    Source: Salimans et al., ICLR 2017, equation 2, https://arxiv.org/abs/1701.05517

    Args:
        values: in [-1, 1], where the levels are equally spaced.
        means: of the logistic distributions, broadcast against the values.
        log_scales: the logarithms of their scales, broadcast likewise; -7 and above are safe in float32.
        num_levels: at least 2.
    """
    half = 1 / (num_levels - 1)  # of the distance between two levels
    precisions = torch.exp(-log_scales)
    upper = (values + half - means) * precisions
    lower = (values - half - means) * precisions
    # log(sigmoid(upper) - sigmoid(lower)) without cancellation, and without `logsigmoid` and `expm1`, which lose it all
    # when they become ONNX: log sigmoid(x) is -softplus(-x), and log(1 - exp(-x)) is log(tanh(x / 2)) + softplus(-x).
    below = -functional.softplus(-upper)
    above = -functional.softplus(lower)
    width = torch.log(torch.tanh(half * precisions)) + functional.softplus(-2 * half * precisions)
    inside = below + above + width
    return torch.where(values < half - 1, below, torch.where(values > 1 - half, above, inside))


def gaussian_mean(output: Tensor) -> Tensor:
    """Return the means, clipped to [-1, 1]."""
    return output.chunk(2, dim=1)[0].clamp(-1, 1)


def bernoulli_mean(output: Tensor) -> Tensor:
    """Return the probabilities of white as intensities, in [-1, 1]."""
    return output.sigmoid() * 2 - 1


def logistic_mixture_mean(output: Tensor) -> Tensor:
    """Return the means of the mixtures, their components' means clipped to [-1, 1]."""
    channels = (output.shape[1] // NUM_COMPONENTS - 1) // 2
    logits, means, _ = _components(output, channels)
    return (logits.softmax(dim=1).unsqueeze(2) * means.clamp(-1, 1)).sum(1).clamp(-1, 1)  # against rounding


def _components(output: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (B, K, H, W), means (B, K, C, H, W) and log scales (B, K, C, H, W)."""
    size, count = output.shape[-2:], NUM_COMPONENTS * channels
    logits, means, log_scales = torch.split(output, [NUM_COMPONENTS, count, count], dim=1)
    shape = (-1, NUM_COMPONENTS, channels, *size)
    return logits, means.reshape(shape), log_scales.reshape(shape).clamp_min(_SMALLEST_LOG_SCALE)


LIKELIHOODS: dict[str, Likelihood] = {
    "gaussian": Likelihood(lambda channels: channels, gaussian, gaussian_mean),
    "bernoulli": Likelihood(lambda channels: channels, bernoulli, bernoulli_mean),
    "logistic_mixture": Likelihood(
        lambda channels: NUM_COMPONENTS * (1 + 2 * channels), logistic_mixture, logistic_mixture_mean
    ),
}
