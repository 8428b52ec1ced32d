"""MeanFlow: a network that predicts the average velocity of a whole step, for sampling in 1 to 4 steps.

Paper: Geng et al., Mean Flows for One-step Generative Modeling, NeurIPS 2025, https://arxiv.org/abs/2505.13447
Departs from the paper: guidance is not trained into the network.

Chosen over consistency models because it needs neither a teacher nor a schedule of discretisation, and because its
network remains a flow: for steps of length 0 it predicts the velocity, so that every sampler, the way back from images
to noise, and the likelihood work with it as they do for `FlowMatching`.
"""

from collections.abc import Callable
from typing import ClassVar, cast

import torch
from aigc_lightning.errors import UserError
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from aigc_diffusion.processes.base import Network, per_sample
from aigc_diffusion.processes.flow import TIME_UNITS, FlowMatching


class MeanFlow(FlowMatching):
    """Flow matching with u(x_t, t, s), the average velocity from t to an earlier time s: x_s = x_t - (t - s) u.

    Args:
        shift: of the sampler's times, as in `FlowMatching`.
        flow_share: share of the samples that are trained with s = t, as in flow matching.

    Raises:
        UserError: a share outside [0, 1].
    """

    level_size: ClassVar[int] = 2
    draws: ClassVar[int] = 3

    def __init__(self, shift: float = 1.0, flow_share: float = 0.75) -> None:
        super().__init__("v", shift)
        if not 0 <= flow_share <= 1:
            raise UserError(f"The share of flow matching in MeanFlow is {flow_share}.", "Choose one from 0 to 1.")
        self.flow_share = flow_share

    def level(self, t: Tensor, s: Tensor) -> Tensor:
        """Return 1000 t and 1000 (t - s), (..., 2)."""
        return TIME_UNITS * torch.stack([t, t - s], dim=-1)

    def training_times(self, sampling: Callable[[Tensor], Tensor], numbers: Tensor) -> Tensor:
        """Return t and s, float64 (B, 2), equal for a share of the samples (section 4.3)."""
        drawn = sampling(numbers[:, :2].double()).sort(dim=1, descending=True).values
        is_flow = (numbers[:, 2] < self.flow_share)[:, None]
        return torch.where(is_flow, drawn[:, :1], drawn)

    def errors(self, network: Network, x0: Tensor, eps: Tensor, times: Tensor) -> Tensor:
        """Return the mean squared error (B,) against u = v - (t - s) du/dt (equation 6).

        Samples whose s is t, for which this is flow matching, are spared the derivative: it takes most of the time.
        """
        is_flow = times[:, 0] == times[:, 1]
        errors = torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
        for chosen, errors_of in ((is_flow, super().errors), (~is_flow, self._identity_errors)):
            rows = chosen.nonzero()[:, 0]
            if len(rows) > 0:
                part = errors_of(network.rows(rows), x0[rows], eps[rows], times[rows])
                errors = errors.index_copy(0, rows, part.to(errors))
        return errors

    def _identity_errors(self, network: Network, x0: Tensor, eps: Tensor, times: Tensor) -> Tensor:
        """Return the errors (B,) of samples with s < t.

        The derivative follows the path: du/dt = v du/dx + du/dt at fixed s (equation 8), a product of the network's
        Jacobian and one vector. No gradient goes through the target (equation 9).
        """
        t, s = times.unbind(dim=1)
        x, velocity = self.noised(x0, eps, t), eps - x0

        def average_velocity(x: Tensor, t: Tensor) -> Tensor:
            return network(x, self.level(t, s).to(x.dtype))

        # Without gradients the derivative keeps no memory; fused attention has no forward-mode derivative.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            tangents = (velocity, torch.ones_like(t))
            _, slope = cast(tuple[Tensor, Tensor], torch.func.jvp(average_velocity, (x, t), tangents))
        target = velocity - per_sample(t - s, x) * slope
        return (average_velocity(x, t) - target).square().flatten(1).mean(dim=1)
