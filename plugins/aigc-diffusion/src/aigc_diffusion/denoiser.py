"""A network with its conditions and guidance, as samplers use it.

Papers: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, https://arxiv.org/abs/2207.12598; Kynkäänniemi et
al., Applying Guidance in a Limited Interval, NeurIPS 2024, https://arxiv.org/abs/2404.07724; Karras et al., Guiding a
Diffusion Model with a Bad Version of Itself, NeurIPS 2024, https://arxiv.org/abs/2406.02507
Departs from the papers: the first writes the scale as 1 + w; here, as in the others, 1 is no guidance.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable

import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.processes import Estimate, Process

#: A network with the conditions of a batch filled in: takes scaled states (B, C, H, W) and noise levels (B, K).
Predict = Callable[[Tensor, Tensor], Tensor]
#: What samplers are given: estimates for states (B, C, H, W) at a time t, from which a step leads to a time s. An s
#: equal to t asks for what holds at this very moment.
Denoise = Callable[[Tensor, float, float], Estimate]


class Denoiser:
    """Returns what the network says about states, and counts how often it was asked.

    Args:
        process: that the network was trained for.
        network: with its conditions filled in.
        guidance: scale of the difference from `guide`; 1 asks `network` alone.
        guide: what the result is led away from: the network without its conditions (classifier-free guidance), or a
            smaller or earlier one with the same conditions (autoguidance).
        interval: times of the process between which there is guidance; None for all.
        dtype: of the network's inputs.

    Attributes:
        evaluations: evaluations of networks so far, those of the guide included: the NFE.

    Raises:
        UserError: guidance without a guide.
    """

    def __init__(
        self,
        process: Process,
        network: Predict,
        *,
        guidance: float = 1.0,
        guide: Predict | None = None,
        interval: tuple[float, float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if guidance != 1 and guide is None:
            raise UserError(
                f"Guidance {guidance} needs something to lead away from.",
                "Train with dropout of the condition, or name a run for autoguidance.",
            )
        self.process, self.network, self.guidance, self.guide = process, network, guidance, guide
        self.interval = interval or (0.0, process.max_time)
        self.dtype = dtype
        self.evaluations = 0

    def __call__(self, x: Tensor, t: float, s: float) -> Estimate:
        """Return estimates in the type of the states.

        Args:
            x: states (B, C, H, W).
            t: their time, at least the process's `min_time`.
            s: time to which a step leads, or t.
        """
        time, target = (torch.tensor(value, dtype=torch.float64) for value in (t, s))
        state = (self.process.input_scale(time) * x).to(self.dtype)
        level = self.process.level(time, target).to(state).expand(len(x), -1)
        output = self._evaluate(self.network, state, level)
        if self.guide is not None and self.guidance != 1 and self.interval[0] <= t <= self.interval[1]:
            # All predictions are linear in the denoised image, so guiding one is guiding the other.
            output = torch.lerp(self._evaluate(self.guide, state, level), output, self.guidance)
        return self.process.estimate(x, output, time)

    def _evaluate(self, network: Predict, state: Tensor, level: Tensor) -> Tensor:
        self.evaluations += 1
        return network(state, level)
