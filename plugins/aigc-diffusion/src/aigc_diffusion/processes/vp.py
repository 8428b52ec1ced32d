"""Variance-preserving diffusion: DDPM with its schedules and predictions.

Papers: Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, https://arxiv.org/abs/2006.11239 (linear
schedule, eps); Nichol and Dhariwal, Improved DDPM, ICML 2021, https://arxiv.org/abs/2102.09672 (cosine schedule,
equation 17); Salimans and Ho, Progressive Distillation, ICLR 2022, https://arxiv.org/abs/2202.00512 (v, appendix D);
Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, WACV 2024, https://arxiv.org/abs/2305.08891
(zero-terminal SNR, algorithm 1; times of few steps, table 2).

DDPM's state is sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps. Divided by the sum of its two factors it is the state
(1 - t) x0 + t eps of flow matching, in which Euler's method is DDIM and pure noise is nothing special. So that is the
state here, and `input_scale` gives the network DDPM's.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from aigc_diffusion.checks import check_choice, check_steps
from aigc_diffusion.processes.base import Mix, Process

Schedule = Literal["linear", "cosine"]
VPPrediction = Literal["v", "x0", "eps"]
#: Largest beta of the cosine schedule.
_LARGEST_BETA = 0.999


class VP(Process):
    """DDPM's process of T = 1000 steps, of which a sampler takes as many as it likes.

    Args:
        prediction: "eps", "x0" or "v", which is sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.
        schedule: "linear" or "cosine".
        zero_terminal_snr: rescale the schedule so that the last step is pure noise.

    Raises:
        UserError: a name that is unknown, or "eps" with zero_terminal_snr.
    """

    def __init__(
        self, prediction: VPPrediction = "eps", schedule: Schedule = "cosine", zero_terminal_snr: bool = False
    ) -> None:
        check_choice("The prediction", prediction, get_args(VPPrediction))
        check_choice("The schedule", schedule, get_args(Schedule))
        self.prediction = prediction
        alpha = alpha_bars(schedule).sqrt()
        if zero_terminal_snr:
            alpha = without_terminal_signal(alpha)
        sigma = (1 - alpha.square()).sqrt()
        #: Times of the indices 0 (the image) to T, float64 (T + 1,), ascending.
        self.times = torch.cat([torch.zeros(1, dtype=torch.float64), sigma / (alpha + sigma)])
        self.max_time, self.min_time = self.times[-1].item(), self.times[1].item()
        self.refuse_without_signal(prediction)

    @property
    def num_steps(self) -> int:
        """T, the steps that the schedule has."""
        return len(self.times) - 1

    def target(self, t: Tensor) -> Mix:
        """Return the mix that the network predicts."""
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        if self.prediction == "v":
            scale = self.input_scale(t)
            return Mix(-t * scale, (1 - t) * scale)
        return Mix(zero, one) if self.prediction == "eps" else Mix(one, zero)

    def input_scale(self, t: Tensor) -> Tensor:
        """Return the factor that makes the state DDPM's."""
        return (t.square() + (1 - t).square()).rsqrt()

    def level(self, t: Tensor, s: Tensor) -> Tensor:
        """Return DDPM's numbers of steps (..., 1), from 0 to T - 1; times between two steps have fractions."""
        return (self.index(t) - 1).clamp(min=0)[..., None]

    def index(self, t: Tensor) -> Tensor:
        """Return the real index from 0 to T that a time has in the schedule."""
        times = self.times.to(t)
        above = torch.searchsorted(times, t.contiguous()).clamp(1, self.num_steps)
        low, high = times[above - 1], times[above]
        return above - 1 + (t - low) / (high - low)

    def time(self, index: Tensor) -> Tensor:
        """Return the time of a real index from 0 to T."""
        times = self.times.to(index)
        below = index.floor().long().clamp(0, self.num_steps - 1)
        return torch.lerp(times[below], times[below + 1], index - below)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """Return the time with a noise-to-signal ratio, or the nearest that the schedule has."""
        return super().time_of_ratio(ratio).clamp(self.min_time, self.max_time)

    def spread(self, share: Tensor) -> Tensor:
        """Return times at equal distances of indices, whole ones as long as there are enough."""
        return self._time_of_step(self.num_steps + (1 - self.num_steps) * share)

    def uniform_times(self, numbers: Tensor) -> Tensor:
        """Return the times of steps 1 to T, each as likely as the others."""
        return self.time((numbers * self.num_steps).floor().clamp(max=self.num_steps - 1) + 1)

    def grid(self, steps: int) -> Tensor:
        """Return times (steps + 1,) at equal distances of indices from T to 0.

        They are "trailing" as in Lin et al.: a few steps leave out the index 1 rather than a larger one.
        """
        check_steps(steps)
        if steps > self.num_steps:  # the network knows no index between 0 and 1
            return self.grid_with_short_end(steps)
        return self._time_of_step(torch.linspace(self.num_steps, 0, steps + 1, dtype=torch.float64))

    def _time_of_step(self, indices: Tensor) -> Tensor:
        return self.time(indices.round() if indices.numel() <= self.num_steps + 1 else indices)


def alpha_bars(schedule: Schedule, num_steps: int = 1000) -> Tensor:
    """Return the shares of the signal's variance after 1 to T steps, float64 (T,)."""
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64)
    else:
        angles = (torch.arange(num_steps + 1, dtype=torch.float64) / num_steps + 0.008) / 1.008 * torch.pi / 2
        bars = angles.cos().square()
        betas = (1 - bars[1:] / bars[:-1]).clamp(max=_LARGEST_BETA)
    return (1 - betas).cumprod(0)


def without_terminal_signal(alpha: Tensor) -> Tensor:
    """Return square roots of alpha_bar (T,) shifted and scaled so that the last is 0 and the first stays."""
    return (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
