"""Samplers on Gaussian data, where their end point is known."""

import math

import pytest
import torch
from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError
from gaussian_data import PROCESSES, GaussianData, double
from torch import Tensor

from aigc_diffusion.denoiser import Denoiser
from aigc_diffusion.processes import EDM, VP, FlowMatching, MeanFlow, Process
from aigc_diffusion.samplers import encode, keyed_noise, make_sampler, start

DETERMINISTIC = ("euler", "heun", "dpmpp_2m", "ddim")


def relative_error(
    process: Process, sampler: str, steps: int, data: GaussianData, times: Tensor | None = None
) -> float:
    """Of the distance from the mean, for a state one standard deviation away from it."""
    solver = make_sampler(sampler, process, data.denoiser(process))
    times = solver.times(steps) if times is None else times
    x = data.variance(process, times[0]).sqrt() + process.alpha(times[0]) * data.mu
    end = solver.run(x.view(1, 1, 1, 1), times)
    exact = data.end_point(process, x.view(1, 1, 1, 1), times[0], times[-1])
    return ((end - exact) / data.variance(process, times[-1]).sqrt()).item()


@pytest.mark.parametrize(
    ("process", "sampler", "percent"),
    [
        (EDM(0.5), "heun", {18: 5.53, 36: 1.22, 72: 0.287}),
        (EDM(0.5), "dpmpp_2m", {18: 6.23, 36: 1.31, 72: 0.297}),
        (EDM(0.5), "euler", {18: -15.4, 36: -7.8, 72: -3.9}),
        (FlowMatching(), "euler", {10: -13.8, 20: -7.2, 40: -3.6}),
        (FlowMatching(), "heun", {10: 0.344, 20: 0.102, 40: 0.027}),
    ],
)
def test_known_errors(process: Process, sampler: str, percent: dict[int, float]) -> None:
    for steps, expected in percent.items():
        assert 100 * relative_error(process, sampler, steps, GaussianData(0.0, 0.5)) == pytest.approx(
            expected, rel=0.02
        )


@pytest.mark.parametrize("sampler", DETERMINISTIC)
@pytest.mark.parametrize("name", PROCESSES)
def test_order_of_convergence(name: str, sampler: str) -> None:
    process, data = PROCESSES[name], GaussianData(0.0, 0.5)
    if isinstance(process, MeanFlow) and sampler in ("euler", "ddim"):
        assert abs(relative_error(process, sampler, 1, data)) < 1e-12  # its steps are exact
        return
    # Away from both ends, where the first step and the last are special.
    ends = [process.time_of_ratio(double(ratio)) for ratio in (3.0, 0.05)]
    errors = []
    for steps in (32, 64, 128):
        shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        times = ends[0] * (ends[1] / ends[0]) ** shares
        errors.append(abs(relative_error(process, sampler, steps, data, times)))
    orders = [math.log2(large / small) for large, small in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(2 if sampler in ("heun", "dpmpp_2m") else 1, abs=0.15), orders


@pytest.mark.parametrize("sampler", DETERMINISTIC)
@pytest.mark.parametrize("name", PROCESSES)
def test_many_steps_reach_the_end_point(name: str, sampler: str) -> None:
    data = GaussianData(0.3, 0.8)
    errors = [abs(relative_error(PROCESSES[name], sampler, steps, data)) for steps in (50, 200)]
    assert errors[1] < 0.03 and errors[1] < max(errors[0], 1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_euler_is_ddim(name: str) -> None:
    process, data = PROCESSES[name], GaussianData(0.1, 0.5)
    x = start(process, torch.randn(2, 1, 3, 3, dtype=torch.float64))
    ends = [
        make_sampler(sampler, process, data.denoiser(process)).run(x, process.grid(7)) for sampler in ("euler", "ddim")
    ]
    assert torch.allclose(*ends, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [*DETERMINISTIC, "ancestral"])
@pytest.mark.parametrize("name", ["flow v", "flow x0", "edm", "vp linear eps", "vp linear v, zero snr", "mean flow"])
def test_any_number_of_steps(name: str, sampler: str) -> None:
    process, data = PROCESSES[name], GaussianData(0.0, 0.5)
    x = start(process, torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    for steps in (1, 2, 5, 1000) if name == "vp linear eps" or sampler == "ancestral" else (1, 2, 5):
        denoiser = data.denoiser(process)
        solver = make_sampler(sampler, process, denoiser, keyed_noise([1, 2], (1, 2, 2)))
        end = solver.run(x, solver.times(steps))
        assert torch.isfinite(end).all() and end.dtype == torch.float32
        # The images stay in bounds, but for Heun's method in EDM, whose first of two steps is of length 80.
        assert end.abs().max() < 5 or (name, sampler, steps) == ("edm", "heun", 2)
        doubled = sampler == "heun"
        last = 1 if doubled and process.min_time > 0 else 0  # the last step is Euler's
        assert denoiser.evaluations == (2 * steps if doubled else steps) - last
        if steps == 1 and not (doubled and process.min_time == 0) and not isinstance(process, MeanFlow):
            once = data.denoiser(process)(x.double(), process.max_time, 0.0)
            assert torch.allclose(end, once.x0.float(), atol=1e-6)  # one step is one denoising


def test_edm_takes_2n_minus_1_evaluations() -> None:
    denoiser = GaussianData().denoiser(EDM())
    solver = make_sampler("heun", EDM(), denoiser)
    solver.run(torch.ones(1, 1, 1, 1), solver.times(18))
    assert denoiser.evaluations == 35


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_fresh_noise_keeps_the_variance(name: str, eta: float) -> None:
    """The end is linear in the start and each draw: unit impulses, one a sample, give its variance without chance."""
    process, data = PROCESSES[name], GaussianData(0.0, 0.5)
    gaps = []
    for steps in (50, 100, 200):
        impulses = torch.eye(steps + 1, dtype=torch.float64)[:, :, None, None, None]
        solver = make_sampler("ddim", process, data.denoiser(process), lambda i, rows=impulses: rows[:, i + 1], eta)
        end = solver.run(data.start_std(process) * impulses[:, 0], process.grid(steps))
        gaps.append(abs(end.square().sum().item() / 0.25 - 1))
    assert gaps[-1] < 0.1 and math.log2(gaps[1] / gaps[2]) == pytest.approx(1, abs=0.35), gaps


def test_ancestral_step_is_the_posterior() -> None:
    """One step against the mean and variance of x_s given x_t and x0 (equations 6 and 7 of DDPM)."""
    process = VP("eps", "linear")
    t, s = process.time(double(501.0)), process.time(double(500.0))
    mu, std = 0.7, 1e-9  # data of one image: x0 is known
    noise = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None, None, None]
    x = torch.full((2, 1, 1, 1), 0.4, dtype=torch.float64)
    solver = make_sampler("ancestral", process, GaussianData(mu, std).denoiser(process), lambda number: noise)
    mean, shifted = solver.run(x, torch.stack([t, s])).flatten().tolist()
    kept, noise_t, noise_s = process.alpha(t) / process.alpha(s), t**2, s**2
    variance = (noise_t - kept**2 * noise_s) * noise_s / noise_t
    expected = kept * noise_s / noise_t * 0.4 + process.alpha(s) * (1 - kept**2 * noise_s / noise_t) * mu
    assert mean == pytest.approx(expected.item(), abs=1e-7)
    assert shifted - mean == pytest.approx(variance.sqrt().item(), rel=1e-7)


@pytest.mark.parametrize("name", PROCESSES)
def test_images_become_noise_and_images_again(name: str) -> None:
    process, data = PROCESSES[name], GaussianData(0.2, 0.5)
    images = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = encode(process, data.denoiser(process), images, 200)
    exact = data.end_point(process, images, double(0.0), double(process.max_time)) / process.max_time
    assert torch.allclose(noise, exact, atol=0.02)
    solver = make_sampler("heun", process, data.denoiser(process))
    assert torch.allclose(solver.run(start(process, noise), solver.times(200)), images, atol=0.02)


def test_noise_of_a_seed_is_its_own() -> None:
    draw = keyed_noise([5, 7], (1, 2, 3))
    alone = keyed_noise([7], (1, 2, 3))
    assert torch.equal(draw(4)[1], alone(4)[0]) and not torch.equal(draw(4)[1], draw(5)[1])
    assert torch.equal(alone(0)[0], keyed.normal((1, 2, 3), 7, 1))


def test_progress_is_told() -> None:
    process, told = FlowMatching(), []
    solver = make_sampler("dpmpp_2m", process, GaussianData().denoiser(process))
    solver.run(torch.ones(2, 1, 3, 3), solver.times(3), lambda done, steps, images: told.append((done, steps, images)))
    assert [entry[:2] for entry in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(images.shape == (2, 1, 3, 3) for _, _, images in told)


def test_guidance_of_1_is_none() -> None:
    process = FlowMatching()
    network, guide = GaussianData(0.5, 0.5).network(process), GaussianData(-0.5, 0.7).network(process)
    plain = Denoiser(process, network, dtype=torch.float64)
    guided = Denoiser(process, network, guidance=1.0, guide=guide, dtype=torch.float64)
    x = torch.randn(2, 1, 3, 3)
    ends = [make_sampler("heun", process, denoiser).run(x, process.grid(5)) for denoiser in (plain, guided)]
    assert torch.equal(*ends) and plain.evaluations == guided.evaluations == 10


@pytest.mark.parametrize("name", PROCESSES)
def test_guidance_moves_the_denoised_image(name: str) -> None:
    process, datas = PROCESSES[name], (GaussianData(0.5, 0.5), GaussianData(-0.5, 0.7))
    t = process.time_of_ratio(double(0.8)).item()
    network, guide = (data.network(process) for data in datas)
    guided = Denoiser(process, network, guidance=3.0, guide=guide, dtype=torch.float64)
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    mine, other = (data.denoiser(process)(x, t, t) for data in datas)
    assert torch.allclose(guided(x, t, t).x0, other.x0 + 3 * (mine.x0 - other.x0))
    assert torch.allclose(guided(x, t, t).eps, other.eps + 3 * (mine.eps - other.eps))
    outside = Denoiser(
        process, network, guidance=3.0, guide=guide, interval=(t * 1.01, process.max_time), dtype=torch.float64
    )
    assert torch.equal(outside(x, t, t).x0, mine.x0) and outside.evaluations == 1


def test_refusals() -> None:
    process, denoise = FlowMatching(), GaussianData().denoiser(FlowMatching())
    with pytest.raises(UserError, match="'rk4'"):
        make_sampler("rk4", process, denoise)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="eta"):
        make_sampler("heun", process, denoise, eta=0.5)
    with pytest.raises(UserError, match="eta"):
        make_sampler("ddim", process, denoise, eta=1.5)
    with pytest.raises(UserError, match="Guidance 2"):
        Denoiser(process, GaussianData().network(process), guidance=2.0)
    with pytest.raises(UserError, match="at least 1 step"):
        encode(process, denoise, torch.ones(1, 1, 1, 1), 0)
