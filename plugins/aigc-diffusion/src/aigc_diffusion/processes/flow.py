"""Flow matching along straight lines, also known as rectified flow.

Papers: Lipman et al., Flow Matching for Generative Modeling, ICLR 2023, https://arxiv.org/abs/2210.02747; Liu et al.,
Flow Straight and Fast, ICLR 2023, https://arxiv.org/abs/2209.03003; Esser et al., Scaling Rectified Flow Transformers,
ICML 2024, https://arxiv.org/abs/2403.03206 (shift of the times, equation 23); Li and He, Back to Basics: Let Denoising
Generative Models Denoise, 2025, https://arxiv.org/abs/2511.13720 (prediction of x0 in pixels).
Departs from the papers: the first two, and SiT, call the image t = 1; here and in the others t = 1 is noise.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from aigc_diffusion.checks import check_choice, check_steps
from aigc_diffusion.processes.base import Mix, Process

FlowPrediction = Literal["v", "x0", "eps"]
#: The network sees times as numbers from 0 to this, as if they were the steps of DDPM.
TIME_UNITS = 1000.0
#: Below this time the noise cannot be told from a prediction of x0.
_LEAST_TIME_OF_X0 = 1e-3


class FlowMatching(Process):
    """x_t = (1 - t) x0 + t eps, with the velocity v = eps - x0.

    Args:
        prediction: "v" or "x0". "eps" is refused: there is no signal at t = 1.
        shift: of the sampler's times, t' = shift t / (1 + (shift - 1) t); above 1 for large images.

    Raises:
        UserError: a prediction that is unknown or impossible.
    """

    def __init__(self, prediction: FlowPrediction = "v", shift: float = 1.0) -> None:
        check_choice("The prediction", prediction, get_args(FlowPrediction))
        self.prediction, self.shift = prediction, shift
        self.max_time = 1.0
        self.min_time = _LEAST_TIME_OF_X0 if prediction == "x0" else 0.0
        self.refuse_without_signal(prediction)

    def target(self, t: Tensor) -> Mix:
        """Return the mix v = eps - x0, or x0 alone."""
        one = torch.ones_like(t)
        return Mix(-one, one) if self.prediction == "v" else Mix(one, torch.zeros_like(t))

    def level(self, t: Tensor, s: Tensor) -> Tensor:
        """Return 1000 t, (..., 1)."""
        return TIME_UNITS * t[..., None]

    def spread(self, share: Tensor) -> Tensor:
        """Return shifted times at equal distances."""
        return shifted(self.max_time + (self.min_time - self.max_time) * share, self.shift).clamp(min=self.min_time)

    def uniform_times(self, numbers: Tensor) -> Tensor:
        """Return the numbers: t is uniform in [0, 1)."""
        return numbers

    def grid(self, steps: int) -> Tensor:
        """Return shifted times (steps + 1,) at equal distances from 1 to 0, as long as the network knows them all."""
        check_steps(steps)
        times = shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), self.shift)
        return times if times[-2] >= self.min_time else self.grid_with_short_end(steps)


def shifted(t: Tensor, shift: float) -> Tensor:
    """Return shift t / (1 + (shift - 1) t), which multiplies the noise-to-signal ratio t / (1 - t) by the shift."""
    return shift * t / (1 + (shift - 1) * t)
