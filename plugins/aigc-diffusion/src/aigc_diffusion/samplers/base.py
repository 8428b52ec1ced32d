"""The loop that all samplers share.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from aigc_lightning.core import keyed
from torch import Tensor

from aigc_diffusion.denoiser import Denoise
from aigc_diffusion.processes import Estimate, Process

#: Returns standard normal noise (B, C, H, W) for the i-th step.
Draw = Callable[[int], Tensor]
#: Is told the steps done, the steps in all, and the images (B, C, H, W) as the network imagines them by now.
Progress = Callable[[int, int, Tensor], None]


class Sampler(ABC):
    """Takes states from one time to another.

    Args:
        process: of the states.
        denoise: what a network, or a closed form, says about them.

    Attributes:
        latest: the newest estimate.
    """

    def __init__(self, process: Process, denoise: Denoise) -> None:
        self.process, self.denoise = process, denoise
        self.latest: Estimate | None = None

    @abstractmethod
    def step(self, x: Tensor, t: float, s: float, number: int) -> Tensor:
        """Return the states (B, C, H, W) at time s for those at time t.

        Args:
            x: states (B, C, H, W).
            t: their time.
            s: an earlier time.
            number: of the step, from 0.
        """

    def times(self, steps: int) -> Tensor:
        """Return the times (steps + 1,) from the largest to 0 that suit this sampler, float64.

        Raises:
            UserError: fewer steps than 1.
        """
        return self.process.grid(steps)

    def estimate(self, x: Tensor, t: float, s: float) -> Estimate:
        """Return what the network says about states at time t, and keep it."""
        self.latest = self.denoise(x, t, s)
        return self.latest

    def coefficients(self, t: float) -> tuple[float, float]:
        """Return the factors of x0 and eps in states at time t."""
        return 1.0 + self.process.alpha_slope * t, t

    @torch.no_grad()
    def run(self, x: Tensor, times: Tensor, progress: Progress | None = None) -> Tensor:
        """Return the states (B, C, H, W) at the last of some times.

        States and times are float64 on the way, whatever the network's type.

        Args:
            x: states (B, C, H, W) at the first of them.
            times: (N + 1,) for N steps.
            progress: called after each step.
        """
        state = x.to(_loop_type(x.device))
        for number, (t, s) in enumerate(pairwise(times.tolist())):
            state = self.step(state, t, s, number)
            if progress is not None and self.latest is not None:
                progress(number + 1, len(times) - 1, self.latest.x0)
        return state.to(x.dtype)


def start(process: Process, noise: Tensor) -> Tensor:
    """Return the states (B, C, H, W) from which sampling starts, for standard normal noise of this shape."""
    return noise * process.max_time


def keyed_noise(seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device | str = "cpu") -> Draw:
    """Return what draws noise (B, *shape) for each step, in which row i depends on seeds[i] and the step alone."""

    def draw(number: int) -> Tensor:
        return torch.stack([keyed.normal(shape, seed, number + 1) for seed in seeds]).to(device)

    return draw


def _loop_type(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
