"""DDIM and ancestral sampling.

Papers: Song et al., Denoising Diffusion Implicit Models, ICLR 2021, https://arxiv.org/abs/2010.02502 (equations 12
and 16); Ho et al., DDPM, NeurIPS 2020, https://arxiv.org/abs/2006.11239 (algorithm 2, with the smaller variance)
"""

from math import sqrt

from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.denoiser import Denoise
from aigc_diffusion.processes import Process
from aigc_diffusion.samplers.base import Draw, Sampler


class DDIM(Sampler):
    """First order; 1 evaluation a step. Some of the noise is replaced by fresh noise in each step.

    Args:
        process: of the states.
        denoise: what a network says about them.
        draw: fresh noise; needed where eta is above 0.
        eta: 0 keeps all of the noise, 1 is ancestral sampling.

    Raises:
        UserError: an eta outside [0, 1].
    """

    def __init__(self, process: Process, denoise: Denoise, draw: Draw | None = None, eta: float = 0.0) -> None:
        super().__init__(process, denoise)
        if not 0 <= eta <= 1:
            raise UserError(f"The eta of DDIM is {eta}.", "Choose one from 0 (no fresh noise) to 1 (ancestral).")
        self.draw, self.eta = draw, eta

    def step(self, x: Tensor, t: float, s: float, number: int) -> Tensor:
        """Return states (B, C, H, W) at time s."""
        estimate = self.estimate(x, t, t if self.eta else s)
        alpha, sigma = self.coefficients(s)
        fresh = self.eta * self._posterior_std(t, s)
        x = alpha * estimate.x0 + sqrt(sigma**2 - fresh**2) * estimate.eps
        if fresh > 0:
            assert self.draw is not None, "fresh noise was not given"
            x = x + fresh * self.draw(number).to(x)
        return x

    def _posterior_std(self, t: float, s: float) -> float:
        """Return the standard deviation of x_s when x_t and x0 are known."""
        (alpha, sigma), (next_alpha, next_sigma) = self.coefficients(t), self.coefficients(s)
        if next_sigma == 0:
            return 0.0
        kept = alpha / next_alpha * next_sigma / sigma  # of the noise at s, the share of it in that at t
        return next_sigma * sqrt(max(1 - kept**2, 0.0))
