"""Processes against closed forms on Gaussian data, and against the numbers of their papers."""

import math

import pytest
import torch
from aigc_lightning.errors import UserError
from gaussian_data import PROCESSES, GaussianData, Given, double, two_points
from torch import Tensor

from aigc_diffusion.processes import EDM, VP, FlowMatching, MeanFlow, Process, make_process, standard_deviation
from aigc_diffusion.processes.vp import alpha_bars

INSTANT = {name: process for name, process in PROCESSES.items() if not isinstance(process, MeanFlow)}


def some_times(process: Process) -> Tensor:
    return process.spread(torch.tensor([0.0, 0.1, 0.35, 0.5, 0.8, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("name", INSTANT)
@pytest.mark.parametrize(("mu", "std"), [(0.0, 0.5), (-0.3, 1.2)])
def test_the_best_prediction_has_the_smallest_error(name: str, mu: float, std: float) -> None:
    process, data, (x0, eps) = INSTANT[name], GaussianData(mu, std), two_points(mu, std)
    network = data.network(process)
    for t in some_times(process):
        times = t.expand(1, 1)
        best = process.errors(network, x0, eps, times)
        assert torch.allclose(best, data.smallest_error(process, t), rtol=1e-9, atol=1e-12)
        # Whatever is added to it makes the error larger by just the square of what is added.
        for extra in (lambda state: 0.1 + 0 * state, lambda state: 0.1 * state):
            worse = process.errors(
                Given(lambda state, level, e=extra: network(state, level) + e(state)), x0, eps, times
            )
            added = extra(process.pair(x0, eps, t[None]).state).square().mean()
            assert torch.allclose(worse - best, added, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", INSTANT)
def test_estimates_undo_pairs(name: str) -> None:
    process = INSTANT[name]
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in some_times(process):
        pair = process.pair(x0, eps, t.expand(3))
        x = process.noised(x0, eps, t)
        estimate = process.estimate(x, pair.target, t)
        assert torch.allclose(estimate.x0, x0, atol=1e-9) and torch.allclose(estimate.eps, eps, atol=1e-9)
        assert torch.allclose(process.input_scale(t) * x, pair.state)
        # The velocity is the path's derivative, the score that of the density given x0.
        later = process.noised(x0, eps, t + 1e-3)
        assert torch.allclose(process.velocity(estimate), (later - x) / 1e-3, atol=1e-9)
        if t > 0:
            assert torch.allclose(process.score(estimate, t), -(x - process.alpha(t) * x0) / t**2, rtol=1e-6)


def test_smallest_loss_of_flow_matching_with_uniform_times() -> None:
    nodes = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for std, expected in ((1.0, math.pi / 2), (0.5, math.pi / 4)):
        assert GaussianData(0.0, std).smallest_error(FlowMatching(), nodes).mean().item() == pytest.approx(expected)


@pytest.mark.parametrize(("mu", "std"), [(0.3, 0.5), (-0.1, 1.0)])
def test_denoisers_and_velocities_in_the_papers_own_terms(mu: float, std: float) -> None:
    data, x = GaussianData(mu, std), torch.linspace(-2, 2, 5, dtype=torch.float64).view(1, 1, 1, 5)
    for sigma in (0.002, 0.5, 80.0):
        denoised = data.denoiser(EDM())(x, sigma, sigma).x0
        assert torch.allclose(denoised, (std**2 * x + sigma**2 * mu) / (std**2 + sigma**2), atol=1e-9)
    for t in (0.0, 0.3, 1.0):
        variance = t**2 + (1 - t) ** 2 * std**2
        velocity = FlowMatching().velocity(data.denoiser(FlowMatching())(x, t, t))
        assert torch.allclose(velocity, -mu + (t - (1 - t) * std**2) / variance * (x - (1 - t) * mu), atol=1e-9)
    bar = alpha_bars("linear")[399].item()
    process = VP("eps", "linear")
    t = process.time(double(400.0)).item()
    state = process.input_scale(double(t)) * x  # DDPM's x_t
    denoised = (bar**0.5 * std**2 * state + (1 - bar) * mu) / (bar * std**2 + 1 - bar)
    assert torch.allclose(data.denoiser(process)(x, t, t).x0, denoised, atol=1e-9)


def test_edm_preconditioning() -> None:
    process, sigma = EDM(sigma_data=0.5), double(0.5)
    one, zero = torch.ones(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1).double()
    skip, out = process.estimate(one, zero, sigma).x0, process.estimate(zero, one, sigma).x0
    assert skip.item() == pytest.approx(0.5) and out.item() == pytest.approx(0.35355, abs=1e-5)
    assert process.input_scale(sigma).item() == pytest.approx(1.41421, abs=1e-5)
    assert process.level(sigma, sigma).item() == pytest.approx(-0.173287, abs=1e-6)
    # With the data's own standard deviation the best output is 0, and the weighted error is 1 at each level.
    data = GaussianData(0.0, 0.5)
    for sigma in some_times(process):
        assert data.smallest_error(process, sigma).item() == pytest.approx(1)
        level = process.level(sigma[None], sigma[None])
        assert torch.allclose(data.network(process)(torch.ones(1, 1, 2, 2).double(), level), double(0.0), atol=1e-12)


def test_grids_of_the_papers() -> None:
    times = EDM().grid(18).tolist()
    assert times[:3] == pytest.approx([80, 57.586, 40.786], abs=1e-3)
    assert times[-3:] == pytest.approx([0.00753, 0.002, 0], abs=1e-5)
    assert FlowMatching().grid(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert FlowMatching(shift=3.0).grid(2).tolist() == [1, 0.75, 0]
    process = VP("eps", "linear")
    assert process.index(process.grid(4)).tolist() == [1000, 750, 500, 250, 0]
    assert process.level(process.grid(4), process.grid(4))[:, 0].tolist() == [999, 749, 499, 249, 0]


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("steps", [1, 2, 3, 18, 1000, 1500])
def test_grids_go_from_noise_to_images(name: str, steps: int) -> None:
    process = PROCESSES[name]
    times = process.grid(steps)
    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert times[0].item() == pytest.approx(process.max_time, rel=1e-12) and times[-1] == 0
    assert (times.diff() < 0).all() and times[-2] >= process.min_time * (1 - 1e-12)
    assert torch.isfinite(process.level(times[:-1], times[1:])).all()


@pytest.mark.parametrize("name", PROCESSES)
def test_no_steps_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="at least 1 step"):
        PROCESSES[name].grid(0)


def test_schedules_of_ddpm() -> None:
    assert alpha_bars("linear")[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)
    assert alpha_bars("cosine")[-1].item() == pytest.approx(2.43e-9, rel=1e-3)
    linear = VP("eps", "linear")
    assert linear.ratio(double(linear.min_time)).item() == pytest.approx(0.01, abs=1e-6)
    assert linear.ratio(double(linear.max_time)).item() == pytest.approx(157.41, abs=1e-2)
    assert VP("v", "linear", zero_terminal_snr=True).max_time == 1
    assert VP("v", "linear", zero_terminal_snr=True).min_time == pytest.approx(linear.min_time)  # the first stays


def test_the_network_sees_ddpm() -> None:
    process, bars = VP("eps", "cosine"), alpha_bars("cosine")
    x0, eps = torch.randn(2, 4, 1, 2, 2, dtype=torch.float64)
    numbers = torch.tensor([0, 3, 500, 999])
    pair = process.pair(x0, eps, process.time(numbers.double() + 1))
    bar = bars[numbers][:, None, None, None]
    assert torch.allclose(pair.state, bar.sqrt() * x0 + (1 - bar).sqrt() * eps)
    assert torch.allclose(pair.level[:, 0], numbers.double()) and torch.equal(pair.target, eps)
    velocity = VP("v", "cosine").pair(x0, eps, process.time(numbers.double() + 1)).target
    assert torch.allclose(velocity, bar.sqrt() * eps - (1 - bar).sqrt() * x0)


def test_mean_flow_identity() -> None:
    data, process, (x0, eps) = GaussianData(0.2, 0.5), MeanFlow(), two_points(0.2, 0.5)
    network = data.network(process)
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for t, s in ((0.7, 0.2), (1.0, 0.0), (0.3, 0.25), (0.5, 0.5), (0.6, 0.0)):
        times = torch.tensor([[t, s]], dtype=torch.float64)
        shifted = Given(lambda state, level: network(state, level) + weight * (state + 1))
        error = process.errors(shifted, x0, eps, times)
        # The target has the variance of eps - x0 given x_t, made smaller by the way that the ODE contracts.
        start, end = data.variance(process, double(t)), data.variance(process, double(s))
        assert torch.allclose(error, (0.5**2 / start) * (end / start), rtol=1e-9)
        # The true average velocity is where the gradient vanishes, and only without one through the target.
        (gradient,) = torch.autograd.grad(error.sum(), weight)
        assert abs(gradient.item()) < 1e-10


def test_mean_flow_is_the_average_of_the_velocity() -> None:
    data, process = GaussianData(0.2, 0.5), MeanFlow()
    network = data.network(process)
    x, t, s = torch.full((1, 1, 1, 1), 0.9, dtype=torch.float64), double(0.8), double(0.1)
    nodes = s + (t - s) * (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    velocities = [network(data.end_point(process, x, t, node), process.level(node[None], node[None])) for node in nodes]
    average = network(x, process.level(t[None], s[None]))
    assert torch.allclose(average, torch.stack(velocities).mean(dim=0), rtol=1e-5)


def test_training_times_of_mean_flow() -> None:
    numbers = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    times = MeanFlow(flow_share=0.75).training_times(lambda numbers: numbers, numbers)
    assert times.shape == (20_000, 2) and (times[:, 0] >= times[:, 1]).all()
    assert (times[:, 0] == times[:, 1]).double().mean().item() == pytest.approx(0.75, abs=0.01)
    assert times[:, 0].mean().item() == pytest.approx(2 / 3, abs=0.01)
    flow = FlowMatching().training_times(lambda numbers: numbers, numbers[:, :1])
    assert flow.shape == (20_000, 1) and flow.dtype == torch.float64


def test_impossible_and_unknown_parts_are_refused() -> None:
    with pytest.raises(UserError, match="eps"):
        VP("eps", "linear", zero_terminal_snr=True)
    with pytest.raises(UserError, match="eps"):
        FlowMatching("eps")
    with pytest.raises(UserError, match="'speed'"):
        make_process("flow", prediction="speed")
    with pytest.raises(UserError, match="'fluss'"):
        make_process("fluss")
    with pytest.raises(UserError, match="'schedule'"):
        make_process("edm", schedule="linear")
    with pytest.raises(UserError, match="sigma_min"):
        EDM(sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(UserError, match="share"):
        MeanFlow(flow_share=1.5)
    assert isinstance(make_process("vp", prediction="x0"), VP)


def test_sigma_data_is_measured() -> None:
    images = 1000 + 0.3 * torch.randn(70, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = images.double().std(correction=0).item()
    assert standard_deviation(images.split([1, 32, 37])) == pytest.approx(expected, rel=1e-12)
    for nothing in ([], [torch.ones(2, 1, 3, 3)]):
        with pytest.raises(UserError, match="standard deviation"):
            standard_deviation(nothing)
