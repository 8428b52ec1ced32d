"""Which times a network is trained at.

A time sampling turns numbers that are uniform in [0, 1) into times, so that times can be keyed, or spread evenly over a
batch, by whoever draws the numbers.

Papers: Karras et al., EDM, NeurIPS 2022, https://arxiv.org/abs/2206.00364 (table 1); Esser et al., Scaling Rectified
Flow Transformers, ICML 2024, https://arxiv.org/abs/2403.03206 (sections 3.1 and 5.3.2)
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.checks import check_choice
from aigc_diffusion.processes import EDM, Process
from aigc_diffusion.processes.flow import shifted

TimeSampling = Callable[[Tensor], Tensor]
TimeSamplingName = Literal["uniform", "logit_normal", "log_normal"]
#: Numbers are kept this far from 0 and 1, where the normal distribution's quantiles are infinite: float32 numbers in
#: [0, 1) are 2^-24 apart.
_EDGE = 2.0**-25


def make_time_sampling(
    name: TimeSamplingName, process: Process, *, mean: float = 0.0, std: float = 1.0, shift: float = 1.0
) -> TimeSampling:
    """Return a time sampling by its name.

    Args:
        name: "uniform" in the process's own clock; "logit_normal" for processes whose times are in [0, 1]; "log_normal"
            for EDM. The latter two are one distribution: t is logit-normal when the noise-to-signal ratio t / (1 - t),
            EDM's sigma, is log-normal.
        process: whose times are drawn.
        mean: of the ratio's logarithm: 0 in Esser et al., -1.2 (P_mean) in EDM.
        std: of the ratio's logarithm: 1 in Esser et al., 1.2 (P_std) in EDM.
        shift: factor of the ratio for large images; see `resolution_shift`.

    Raises:
        UserError: a name that is unknown or does not suit the process, or numbers that are not above 0.
    """
    check_choice("The time sampling", name, get_args(TimeSamplingName))
    if not std > 0 or not shift > 0:
        raise UserError(f"The time sampling has std {std} and shift {shift}.", "Choose numbers above 0.")
    if name == "uniform":
        process.uniform_times(torch.zeros(1, dtype=torch.float64))  # a process that has none says so here
        return lambda numbers: shifted(process.uniform_times(numbers), shift).clamp(max=process.max_time)
    if (name == "log_normal") != isinstance(process, EDM):
        raise UserError(
            f"The time sampling {name!r} does not suit {type(process).__name__}.",
            'Choose "log_normal" for EDM and "logit_normal" for the others.',
        )

    def sampling(numbers: Tensor) -> Tensor:
        normal = torch.special.ndtri(numbers.clamp(_EDGE, 1 - _EDGE))
        return process.time_of_ratio((mean + std * normal).exp() * shift)

    return sampling


def resolution_shift(pixels: int, base_pixels: int) -> float:
    """Return the shift for images, or latents, that are larger than those the times were chosen for.

    Args:
        pixels: height times width.
        base_pixels: the number of pixels that needs no shift.

    Source: Esser et al., section 5.3.2: noise must grow with the side of the image to hide as much.
    """
    return math.sqrt(pixels / base_pixels)
