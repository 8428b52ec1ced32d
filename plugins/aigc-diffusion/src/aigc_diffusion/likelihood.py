"""Log-likelihood of images by the probability-flow ODE.

Papers: Chen et al., Neural Ordinary Differential Equations, NeurIPS 2018, https://arxiv.org/abs/1806.07366 (theorem 1);
Grathwohl et al., FFJORD, ICLR 2019, https://arxiv.org/abs/1810.01367 (Hutchinson's estimate of the trace); Song et al.,
ICLR 2021, https://arxiv.org/abs/2011.13456 (appendix D.2)
Departs from the papers: the trace can be exact, at a backward pass for each number of an image.
Shapes: B batch, C channels, H and W height and width in pixels, D = C H W.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log, pi

import torch
from aigc_lightning.core import keyed
from torch import Tensor

from aigc_diffusion.checks import check_steps
from aigc_diffusion.denoiser import Denoise
from aigc_diffusion.processes import Process

_SIGNS = 0x51645  # key of the probes, so that a seed's other draws are independent of them


def log_likelihood(
    process: Process,
    denoise: Denoise,
    images: Tensor,
    steps: int,
    probes: Sequence[Tensor] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the log-density of images (B,) in nats, float64, under what the sampler starts from and the ODE.

    The way from the image at `min_time` to `max_time` is taken in steps of Heun's method, 2 evaluations each.

    Args:
        process: of the network.
        denoise: the network's estimates; gradients must reach the states.
        images: (B, C, H, W), of continuous values.
        steps: at least 1.
        probes: signs (B, C, H, W) each, for an unbiased estimate of the trace (see `keyed_probes`); none for the exact
            trace, which costs D backward passes an evaluation.
        progress: is told the steps done and the steps in all.

    Raises:
        UserError: fewer steps than 1.
    """
    check_steps(steps)
    shares = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    times = process.spread(shares).tolist()
    x, change = images.double(), torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for number, (t, s) in enumerate(pairwise(times)):
        first, first_divergence = _drift(process, denoise, x, t, probes)
        second, second_divergence = _drift(process, denoise, x + (s - t) * first, s, probes)
        x = x + (s - t) / 2 * (first + second)
        change = change + (s - t) / 2 * (first_divergence + second_divergence)
        if progress is not None:
            progress(number + 1, steps)
    return _normal_log_density(x, process.max_time) + change


def keyed_probes(seeds: Sequence[int], shape: tuple[int, int, int], count: int) -> list[Tensor]:
    """Return signs (B, *shape) for some probes, in which row i depends on seeds[i] and the probe alone."""
    return [torch.stack([keyed.normal(shape, seed, _SIGNS, probe).sign() for seed in seeds]) for probe in range(count)]


def _drift(process: Process, denoise: Denoise, x: Tensor, t: float, probes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the velocity of states (B, C, H, W) and its divergence (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = process.velocity(denoise(x, t, t))
        divergence = _mean_along(velocity, x, probes) if probes else _trace(velocity, x)
    return velocity.detach(), divergence


def _mean_along(velocity: Tensor, x: Tensor, probes: Sequence[Tensor]) -> Tensor:
    """Return the mean of e^T J e over the probes e, (B,)."""
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for probe in probes:
        probe = probe.to(x)
        (product,) = torch.autograd.grad(velocity, x, probe, retain_graph=True)
        total = total + (product * probe).flatten(1).sum(dim=1)
    return total / len(probes)


def _trace(velocity: Tensor, x: Tensor) -> Tensor:
    """Return the trace of the Jacobian (B,), a row at a time."""
    outputs = velocity.flatten(1)
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for number in range(outputs.shape[1]):
        (row,) = torch.autograd.grad(outputs[:, number].sum(), x, retain_graph=True)
        total = total + row.flatten(1)[:, number]
    return total


def _normal_log_density(x: Tensor, std: float) -> Tensor:
    """Return the log-density (B,) of N(0, std^2) at states (B, C, H, W)."""
    squares = x.square().flatten(1).sum(dim=1)
    return -squares / (2 * std**2) - x[0].numel() * (log(std) + log(2 * pi) / 2)
