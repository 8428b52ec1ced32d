"""Euler's and Heun's methods for the probability-flow ODE, in both directions.

Papers: Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, ICLR 2021,
https://arxiv.org/abs/2011.13456 (the ODE, section 4.3); Karras et al., EDM, NeurIPS 2022,
https://arxiv.org/abs/2206.00364 (algorithm 1)

Paths are straight in the states of `aigc_diffusion.processes`, so Euler's method is DDIM.
"""

from torch import Tensor

from aigc_diffusion.denoiser import Denoise
from aigc_diffusion.processes import Process
from aigc_diffusion.samplers.base import Progress, Sampler


class Euler(Sampler):
    """First order; 1 evaluation a step. For MeanFlow a step goes along the average velocity."""

    def step(self, x: Tensor, t: float, s: float, number: int) -> Tensor:
        """Return states (B, C, H, W) at time s."""
        return x + (s - t) * self.velocity(x, t, s)

    def velocity(self, x: Tensor, t: float, s: float) -> Tensor:
        """Return dx/dt at time t, or what the network gives for a step to an earlier time s."""
        # Images that are to become noise are taken for states with the least noise that the network knows.
        t = max(t, self.process.min_time)
        return self.process.velocity(self.estimate(x, t, min(s, t)))


class Heun(Euler):
    """Second order; 2 evaluations a step, but 1 where the network cannot be evaluated at both ends.

    There the last step, which is Euler's, is made as short as possible, or it would spoil the order. So in EDM the
    method needs more than a handful of steps: of two, the first would lead from sigma 80 to 0.002.
    """

    def times(self, steps: int) -> Tensor:
        """Return times (steps + 1,) of which the last but one is the smallest that the network knows."""
        return self.process.grid_with_short_end(steps) if self.process.min_time > 0 else self.process.grid(steps)

    def step(self, x: Tensor, t: float, s: float, number: int) -> Tensor:
        """Return states (B, C, H, W) at time s."""
        first = self.velocity(x, t, t)
        predicted = x + (s - t) * first
        if min(s, t) < self.process.min_time:
            return predicted
        return x + (s - t) / 2 * (first + self.velocity(predicted, s, s))


def encode(process: Process, denoise: Denoise, images: Tensor, steps: int, progress: Progress | None = None) -> Tensor:
    """Return the standard normal noise (B, C, H, W) that images come from, by Heun's method backwards.

    Args:
        process: of the network.
        denoise: its estimates, without guidance.
        images: (B, C, H, W).
        steps: as for sampling.
        progress: called after each step.

    Raises:
        UserError: fewer steps than 1.
    """
    heun = Heun(process, denoise)
    return heun.run(images, heun.times(steps).flip(0), progress) / process.max_time
