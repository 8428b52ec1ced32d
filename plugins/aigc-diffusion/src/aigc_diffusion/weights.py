"""How errors of different noise levels are weighed against each other.

Each is a module that turns the errors of samples (B,), as `Process.errors` returns them, into losses (B,).

Papers: Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy, ICCV 2023,
https://arxiv.org/abs/2303.09556; Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models
(EDM2), CVPR 2024, https://arxiv.org/abs/2312.02696 (equations 14 to 16); Geng et al., MeanFlow, NeurIPS 2025,
https://arxiv.org/abs/2505.13447 (section 4.3, equation 22)
Shapes: B batch, F features of a noise level.
"""

from typing import Literal, get_args

import torch
from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_diffusion.checks import check_choice
from aigc_diffusion.processes import Process

LossWeight = Literal["none", "min_snr", "uncertainty", "adaptive"]
_FREQUENCIES = 20231205  # key of the frequencies of `Uncertainty`
_LEAST_RATIO, _LARGEST_RATIO = 1e-6, 1e6  # of noise to signal, that `Uncertainty` tells apart


def make_loss_weight(name: LossWeight, process: Process) -> nn.Module:
    """Return a weighting by its name.

    Args:
        name: "none", which is EDM's own weighting for EDM; "min_snr"; "uncertainty" as in EDM2; "adaptive" as in
            MeanFlow.
        process: whose errors are weighed.

    Raises:
        UserError: a name that is unknown.
    """
    check_choice("The loss weight", name, get_args(LossWeight))
    if name == "min_snr":
        return MinSNR(process)
    if name == "uncertainty":
        return Uncertainty(process)
    return Adaptive() if name == "adaptive" else Unweighted()


class Unweighted(nn.Module):
    """The errors themselves."""

    def forward(self, errors: Tensor, t: Tensor) -> Tensor:
        """Return the errors (B,)."""
        return errors


class MinSNR(nn.Module):
    """Errors of the denoised image times min(SNR, gamma), whatever the network predicts.

    An error of x0 is t / determinant times that of the prediction, which gives the weights of section 3.4:
    min(SNR, gamma) for x0, that over SNR for eps, and over SNR + 1 for v.

    Args:
        process: whose errors are weighed.
        gamma: the largest weight of x0.

    Raises:
        UserError: a gamma that is not above 0.
    """

    def __init__(self, process: Process, gamma: float = 5.0) -> None:
        super().__init__()
        if not gamma > 0:
            raise UserError(f"The gamma of min-SNR is {gamma}.", "Choose a number above 0; 5 in the paper.")
        self.process, self.gamma = process, gamma

    def weights(self, t: Tensor) -> Tensor:
        """Return the weights (B,) of errors at times (B,)."""
        snr = self.process.ratio(t).square().reciprocal()
        return snr.clamp(max=self.gamma) * (t / self.process.determinant(t)).square()

    def forward(self, errors: Tensor, t: Tensor) -> Tensor:
        """Return the weighted errors (B,) of times (B,)."""
        return self.weights(t).to(errors) * errors


class Uncertainty(nn.Module):
    """Errors divided by their expectation at that noise level, which is learned beside the network.

    The loss e / exp(u) + u is smallest where u is the logarithm of the expected error e, and there its gradients by the
    network have the same size at each level.

    Args:
        process: whose errors are weighed.
        num_features: F.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, process: Process, num_features: int = 128) -> None:
        super().__init__()
        self.process = process
        # Keyed, so that they need no place in checkpoints.
        frequencies = 2 * torch.pi * keyed.normal((num_features,), _FREQUENCIES, 0)
        phases = 2 * torch.pi * torch.rand(num_features, generator=keyed.generator(_FREQUENCIES, 1))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("phases", phases, persistent=False)
        self.linear = nn.Linear(num_features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def log_expectation(self, t: Tensor) -> Tensor:
        """Return u, the logarithm of the expected errors (B,) at times (B,)."""
        level = self.process.ratio(t).clamp(_LEAST_RATIO, _LARGEST_RATIO).log() / 4  # c_noise of EDM
        features = (level.to(self.frequencies)[:, None] * self.frequencies + self.phases).cos()
        u: Tensor = self.linear(features)[:, 0]
        return u

    def forward(self, errors: Tensor, t: Tensor) -> Tensor:
        """Return e / exp(u) + u for errors e and times (B,)."""
        u = self.log_expectation(t)
        return errors * (-u).exp() + u


class Adaptive(nn.Module):
    """Errors divided by themselves to a power, without a gradient through the divisor: large errors count less.

    Args:
        power: 1 in the paper's best runs; 0 is no weighting.
        floor: keeps the divisor from 0.
    """

    def __init__(self, power: float = 1.0, floor: float = 1e-3) -> None:
        super().__init__()
        self.power, self.floor = power, floor

    def forward(self, errors: Tensor, t: Tensor) -> Tensor:
        """Return the divided errors (B,)."""
        return errors / (errors.detach() + self.floor) ** self.power
