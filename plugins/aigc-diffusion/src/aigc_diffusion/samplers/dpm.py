"""DPM-Solver++ of second order with one evaluation a step.

Paper: Lu et al., DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models, 2022,
https://arxiv.org/abs/2211.01095 (algorithm 2)
"""

from math import inf, log

from torch import Tensor

from aigc_diffusion.denoiser import Denoise
from aigc_diffusion.processes import Process
from aigc_diffusion.samplers.base import Sampler


class DPMSolver2M(Sampler):
    """Second order from the present and the previous estimate of the image; 1 evaluation a step.

    The first step has no previous estimate, and steps from pure noise or to clean images are infinitely long in
    lambda = log(alpha / sigma): these are of first order.
    """

    def __init__(self, process: Process, denoise: Denoise) -> None:
        super().__init__(process, denoise)
        self._previous: tuple[Tensor, float] | None = None  # estimate of the image, and lambda

    def step(self, x: Tensor, t: float, s: float, number: int) -> Tensor:
        """Return states (B, C, H, W) at time s."""
        x0 = mixed = self.estimate(x, t, t).x0
        now, then = self._lambda(t), self._lambda(s)
        if number > 0 and self._previous is not None and then < inf and self._previous[1] > -inf:
            last, before = self._previous
            correction = (then - now) / (2 * (now - before))  # 1 / (2 r) in algorithm 2
            mixed = x0 + correction * (x0 - last)
        self._previous = (x0, now)
        (alpha, sigma), (next_alpha, next_sigma) = self.coefficients(t), self.coefficients(s)
        # sigma_s / sigma_t x - alpha_s (exp(-h) - 1) D, without an exponential of an infinite h
        return next_sigma / sigma * x + (next_alpha - next_sigma * alpha / sigma) * mixed

    def _lambda(self, t: float) -> float:
        alpha, sigma = self.coefficients(t)
        if alpha <= 0:
            return -inf
        return log(alpha / sigma) if sigma > 0 else inf
