"""A pixel's distribution as a mixture of discretised logistics, whose later channels depend on the earlier ones.

Paper: Salimans et al., PixelCNN++, ICLR 2017, https://arxiv.org/abs/1701.05517, sections 2.1 and 2.2
Departs from the paper: in nothing; images may also have one or four channels, and any number of levels.
Shapes: B batch, C image channels, H and W height and width in pixels, K components, D network outputs for a pixel.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from aigc_lightning.losses.likelihood import discretised_logistic
from torch import Tensor
from torch.nn import functional

from aigc_autoregressive.levels import to_images, to_levels
from aigc_autoregressive.noise import to_gumbel, to_logistic

SMALLEST_LOG_SCALE = -7.0  # narrower, and the slopes become too steep to learn


class Components(NamedTuple):
    """What a network says about each pixel; `...` stands for the pixels, such as (B, H, W).

    Args:
        logits: of the components, (..., K).
        means: before the earlier channels are added, (..., K, C).
        log_scales: (..., K, C).
        coefficients: of the earlier channels in the means, strictly lower triangular, (..., K, C, C).
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    coefficients: Tensor


@dataclass(frozen=True)
class LogisticMixture:
    """The channels of a pixel share its component; given it, means are linear in the channels before.

    Args:
        channels: C.
        num_components: K.
        num_levels: values that a number of an image can have.
    """

    channels: int
    num_components: int = 10
    num_levels: int = 256

    @property
    def num_outputs(self) -> int:
        """D: a logit, C means, C scales and C (C - 1) / 2 coefficients for each component."""
        return self.num_components * (1 + 2 * self.channels + math.comb(self.channels, 2))

    @property
    def num_draws(self) -> int:
        """Random numbers with which a pixel is drawn."""
        return self.num_components + self.channels

    def log_prob(self, images: Tensor, output: Tensor) -> Tensor:
        """Return the log-probability of each pixel given those before it, in nats, (B, H, W).

        Args:
            images: (B, C, H, W) in [-1, 1].
            output: of the network, (B, D, H, W).
        """
        parts = self._components(output.movedim(1, -1))
        pixels = images.movedim(1, -1).unsqueeze(-2)  # (B, H, W, 1, C)
        means = parts.means + (parts.coefficients @ pixels.unsqueeze(-1)).squeeze(-1)
        levels = discretised_logistic(pixels, means, parts.log_scales, self.num_levels)
        return torch.logsumexp(functional.log_softmax(parts.logits, dim=-1) + levels.sum(-1), dim=-1)

    def draw(self, output: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw a pixel of each image, (B, C), exactly the levels that the log-probabilities tell of.

        Args:
            output: of the network at this pixel, (B, D).
            uniform: numbers in [0, 1), float64 (B, K + C).
            temperature: multiplies the scales and divides the logits; below 1 draws likelier pixels.
        """
        parts = self._components(output)
        choice, place = torch.split(uniform, [self.num_components, self.channels], dim=-1)
        chosen = (parts.logits + temperature * to_gumbel(choice).to(parts.logits)).argmax(-1)
        rows = torch.arange(len(output), device=output.device)
        means, log_scales, coefficients = (part[rows, chosen] for part in parts[1:])
        offsets = temperature * log_scales.exp() * to_logistic(place).to(log_scales)
        pixel = torch.zeros_like(means)
        for channel in range(self.channels):
            mean = means[:, channel] + (coefficients[:, channel] * pixel).sum(-1)
            level = to_levels(mean + offsets[:, channel], self.num_levels)
            pixel[:, channel] = to_images(level, self.num_levels)
        return pixel

    def _components(self, output: Tensor) -> Components:
        """Split outputs (..., D), in float32 at least, as the levels' masses are small differences."""
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        count, channels = self.num_components, self.channels
        sizes = [count, count * channels, count * channels, count * math.comb(channels, 2)]
        logits, means, log_scales, below = torch.split(output, sizes, dim=-1)
        shape = (*output.shape[:-1], count, channels)
        coefficients = output.new_zeros(*shape, channels)
        if channels > 1:
            rows, columns = torch.tril_indices(channels, channels, -1, device=output.device)
            coefficients[..., rows, columns] = below.tanh().reshape(*shape[:-1], -1)
        log_scales = log_scales.reshape(shape).clamp_min(SMALLEST_LOG_SCALE)
        return Components(logits, means.reshape(shape), log_scales, coefficients)
