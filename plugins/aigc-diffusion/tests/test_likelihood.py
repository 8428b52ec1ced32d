"""Likelihoods of Gaussian data, and traces of known matrices."""

import itertools
import math

import pytest
import torch
from aigc_lightning.errors import UserError
from gaussian_data import PROCESSES, GaussianData, double
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from aigc_diffusion.denoiser import Denoiser
from aigc_diffusion.likelihood import keyed_probes, log_likelihood
from aigc_diffusion.networks import DiT
from aigc_diffusion.processes import EDM, FlowMatching, Process


def normal_log_density(x: Tensor, mean: float, std: float) -> Tensor:
    return torch.distributions.Normal(double(mean), double(std)).log_prob(x).flatten(1).sum(dim=1)


def sampled_log_density(process: Process, data: GaussianData, x: Tensor) -> Tensor:
    """The density of what the ODE makes of N(0, max_time^2): not quite the data's where noise never hides it."""
    low, high = double(process.min_time), double(process.max_time)
    end = data.end_point(process, x, low, high)
    growth = (data.variance(process, high) / data.variance(process, low)).sqrt().log()
    return normal_log_density(end, 0.0, process.max_time) + growth * x[0].numel()


@pytest.mark.parametrize("name", PROCESSES)
def test_gaussian_data(name: str) -> None:
    process, data = PROCESSES[name], GaussianData(0.2, 0.5)
    images = 0.2 + 0.5 * torch.randn(2, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = sampled_log_density(process, data, images)
    gaps = [
        (log_likelihood(process, data.denoiser(process), images, steps) - exact).abs().max().item()
        for steps in (30, 60)
    ]
    assert gaps[1] < 0.1 and gaps[1] < 0.4 * gaps[0], gaps
    if process.max_time == 1 and process.min_time == 0:  # nothing but noise at one end, nothing but data at the other
        assert torch.allclose(exact, normal_log_density(images, 0.2, 0.5))


def test_the_flow_spreads_by_the_standard_deviation() -> None:
    """The integral of div v from data to noise is -ln s for each pixel."""
    process, data, images = FlowMatching(), GaussianData(0.0, 0.5), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    nats = log_likelihood(process, data.denoiser(process), images, 200)
    assert nats.item() + math.log(2 * math.pi) / 2 == pytest.approx(-math.log(0.5), abs=1e-4)


def linear_denoiser(matrix: Tensor) -> Denoiser:
    """v(x) = M x at each time, for images of as many pixels as M has rows."""

    def network(state: Tensor, level: Tensor) -> Tensor:
        return (state.flatten(1) @ matrix.T).view_as(state)

    return Denoiser(FlowMatching(), network, dtype=torch.float64)


def test_traces() -> None:
    matrix = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images, steps = torch.randn(3, 1, 2, 2, dtype=torch.float64), 4
    denoise = linear_denoiser(matrix)
    exact = log_likelihood(FlowMatching(), denoise, images, steps)
    # Heun's method on a linear field: 4 steps of 1 + A/4 + (A/4)^2 / 2.
    step = torch.eye(4, dtype=torch.float64) + matrix / 4 + matrix @ matrix / 32
    end = (images.flatten(1) @ torch.linalg.matrix_power(step, 4).T).view_as(images)
    assert torch.allclose(exact, normal_log_density(end, 0.0, 1.0) + matrix.trace())
    signs = [torch.tensor(row, dtype=torch.float64).view(1, 1, 2, 2) for row in itertools.product((-1, 1), repeat=4)]
    probes = [sign.expand(3, 1, 2, 2) for sign in signs]
    assert torch.allclose(log_likelihood(FlowMatching(), denoise, images, steps, probes), exact)  # unbiased
    one = log_likelihood(FlowMatching(), denoise, images, steps, probes[3:4])
    product = probes[3][0].flatten() @ matrix @ probes[3][0].flatten()
    assert torch.allclose(one - exact, product - matrix.trace())


def test_probes_are_keyed_signs() -> None:
    probes = keyed_probes([3, 9], (1, 8, 8), 2)
    assert len(probes) == 2 and all(set(probe.unique().tolist()) == {-1, 1} for probe in probes)
    assert torch.equal(keyed_probes([9], (1, 8, 8), 2)[1][0], probes[1][1])
    assert not torch.equal(probes[0], probes[1])
    data, process = GaussianData(), FlowMatching()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    estimate = log_likelihood(process, data.denoiser(process), images, 5, probes)
    exact = log_likelihood(process, data.denoiser(process), images, 5)
    assert torch.allclose(estimate, exact)  # each pixel by itself: any signs give the trace


def test_progress_and_refusal() -> None:
    told: list[tuple[int, int]] = []
    process, denoise = EDM(), GaussianData().denoiser(EDM())
    log_likelihood(
        process, denoise, torch.zeros(1, 1, 1, 1), 3, progress=lambda done, steps: told.append((done, steps))
    )
    assert told == [(1, 3), (2, 3), (3, 3)] and denoise.evaluations == 6
    with pytest.raises(UserError, match="at least 1 step"):
        log_likelihood(process, denoise, torch.zeros(1, 1, 1, 1), 0)


def test_traces_of_a_network_with_attention() -> None:
    torch.manual_seed(0)
    network, process = DiT(1, 1, 1, 8, 2).double(), FlowMatching()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    denoise = Denoiser(process, network, dtype=torch.float64)
    x = torch.randn(2, 1, 2, 2, dtype=torch.float64)

    def trace(state: Tensor, t: float) -> Tensor:
        jacobian = torch.func.jacfwd(lambda image: process.velocity(denoise(image[None], t, t))[0].flatten())
        with sdpa_kernel(SDPBackend.MATH):
            return torch.stack([jacobian(image).flatten(1).trace() for image in state])

    first = process.velocity(denoise(x, 0.0, 0.0)).detach()
    second = process.velocity(denoise(x + first, 1.0, 1.0)).detach()
    end = x + (first + second) / 2
    expected = normal_log_density(end, 0.0, 1.0) + (trace(x, 0.0) + trace(x + first, 1.0)).detach() / 2
    assert torch.allclose(log_likelihood(process, denoise, x, 1), expected)
