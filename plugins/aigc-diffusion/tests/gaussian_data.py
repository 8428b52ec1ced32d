"""Everything about diffusion of Gaussian data N(mu, std^2) in closed form, pixel by pixel.

x_t has the mean alpha mu and the variance V_t = alpha^2 std^2 + t^2, and the ODE keeps the number of standard
deviations that a state is away from the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aigc_diffusion.denoiser import Denoiser
from aigc_diffusion.processes import EDM, VP, FlowMatching, MeanFlow, Process
from aigc_diffusion.processes.base import per_sample
from aigc_diffusion.processes.flow import TIME_UNITS

#: Every process with every prediction, by a name.
PROCESSES: dict[str, Process] = {
    "flow v": FlowMatching("v"),
    "flow v, shift 3": FlowMatching("v", shift=3.0),
    "flow x0": FlowMatching("x0"),
    "edm": EDM(sigma_data=0.5),
    "edm, sigma_data 1": EDM(sigma_data=1.0),
    **{
        f"vp {schedule} {prediction}": VP(prediction, schedule)
        for schedule in ("linear", "cosine")
        for prediction in ("v", "x0", "eps")
    },
    "vp linear v, zero snr": VP("v", "linear", zero_terminal_snr=True),
    "mean flow": MeanFlow(),
}


def double(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64)


def two_points(mu: float, std: float) -> tuple[Tensor, Tensor]:
    """Images and noise (1, 1, 2, 2), float64, over whose pixels means of products of two linear functions are exact."""
    signs = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    return (mu + std * signs)[None, None], signs.T.contiguous()[None, None]


@dataclass
class Given:
    """A function of states and noise levels as a network without conditions."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, state: Tensor, level: Tensor) -> Tensor:
        return self.function(state, level)

    def rows(self, rows: Tensor) -> "Given":
        return self


@dataclass
class GaussianData:
    mu: float = 0.0
    std: float = 0.5

    def variance(self, process: Process, t: Tensor) -> Tensor:
        return (process.alpha(t) * self.std) ** 2 + t**2

    def end_point(self, process: Process, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the ODE takes states at t to at s."""
        scale = per_sample((self.variance(process, s) / self.variance(process, t)).sqrt(), x)
        mean, end_mean = (per_sample(process.alpha(time) * self.mu, x) for time in (t, s))
        return end_mean + scale * (x - mean)

    def start_std(self, process: Process) -> float:
        return self.variance(process, double(process.max_time)).sqrt().item()

    def smallest_error(self, process: Process, t: Tensor) -> Tensor:
        """The mean squared error of the best prediction: (determinant / t)^2 Var(x0 | x_t)."""
        return process.determinant(t).square() * self.std**2 / self.variance(process, t)

    def network(self, process: Process) -> Given:
        """The best network there can be."""

        def predict(state: Tensor, level: Tensor) -> Tensor:
            t, s = times_of_level(process, level)
            x = state / per_sample(process.input_scale(t), state)
            if isinstance(process, MeanFlow) and not torch.equal(t, s):
                return (x - self.end_point(process, x, t, s)) / per_sample(t - s, x)
            centred = (x - per_sample(process.alpha(t) * self.mu, x)) / per_sample(self.variance(process, t), x)
            x0 = self.mu + per_sample(process.alpha(t) * self.std**2, x) * centred
            eps = per_sample(t, x) * centred
            mix = process.target(t)
            return per_sample(mix.x0, x) * x0 + per_sample(mix.eps, x) * eps

        return Given(predict)

    def denoiser(self, process: Process) -> Denoiser:
        return Denoiser(process, self.network(process), dtype=torch.float64)


def times_of_level(process: Process, level: Tensor) -> tuple[Tensor, Tensor]:
    """The times t and s that a network is told of by noise levels (B, K)."""
    first = level[:, 0]
    if isinstance(process, MeanFlow):
        return first / TIME_UNITS, (first - level[:, 1]) / TIME_UNITS
    if isinstance(process, FlowMatching):
        t = first / TIME_UNITS
    elif isinstance(process, EDM):
        t = (4 * first).exp()
    else:
        assert isinstance(process, VP)
        t = process.time(first + 1)
    return t, t
