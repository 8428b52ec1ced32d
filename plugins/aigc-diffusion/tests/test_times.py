"""Distributions of training times."""

import pytest
import torch
from aigc_lightning.errors import UserError
from gaussian_data import PROCESSES
from torch import Tensor

from aigc_diffusion.processes import EDM, VP, FlowMatching, MeanFlow
from aigc_diffusion.times import make_time_sampling, resolution_shift


def evenly(count: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_uniform() -> None:
    numbers = evenly(1000)
    assert torch.equal(make_time_sampling("uniform", FlowMatching())(numbers), numbers)
    process = VP("eps", "linear")
    times = make_time_sampling("uniform", process)(numbers)
    assert torch.allclose(process.index(times), torch.arange(1, 1001, dtype=torch.float64))  # each step once


def test_shift() -> None:
    half = torch.tensor([0.5], dtype=torch.float64)
    for name in ("uniform", "logit_normal"):
        assert make_time_sampling(name, FlowMatching(), shift=3.0)(half).item() == pytest.approx(0.75)
    process = VP("eps", "linear")
    ratios = [process.ratio(make_time_sampling("uniform", process, shift=shift)(half)) for shift in (1.0, 2.0)]
    assert torch.allclose(ratios[1], 2 * ratios[0])
    assert make_time_sampling("uniform", process, shift=2.0)(1 - half / 1e6) == process.max_time
    assert resolution_shift(32 * 32, 28 * 28) == pytest.approx(32 / 28)
    assert resolution_shift(64 * 16, 32 * 32) == 1


def test_logit_normal() -> None:
    times = make_time_sampling("logit_normal", FlowMatching())(evenly(100_000))
    assert (times < 0.2).double().mean().item() == pytest.approx(0.08283, abs=1e-5)
    logits = make_time_sampling("logit_normal", MeanFlow(), mean=-0.4, std=1.3)(evenly(100_000)).logit()
    assert logits.mean().item() == pytest.approx(-0.4, abs=1e-3) and logits.std().item() == pytest.approx(1.3, abs=1e-3)


def test_log_normal() -> None:
    sigma = make_time_sampling("log_normal", EDM(), mean=-1.2, std=1.2)(evenly(100_000))
    assert sigma.log().mean().item() == pytest.approx(-1.2, abs=1e-3)
    assert sigma.log().std().item() == pytest.approx(1.2, abs=1e-3)
    # The same noise-to-signal ratios as a flow with logit-normal times.
    flow = FlowMatching()
    times = make_time_sampling("logit_normal", flow, mean=-1.2, std=1.2)(evenly(100))
    assert torch.allclose(flow.ratio(times), make_time_sampling("log_normal", EDM(), mean=-1.2, std=1.2)(evenly(100)))


@pytest.mark.parametrize("name", PROCESSES)
def test_times_suit_the_process(name: str) -> None:
    process = PROCESSES[name]
    sampling = make_time_sampling("log_normal" if isinstance(process, EDM) else "logit_normal", process)
    times = sampling(torch.tensor([0.0, 2**-24, 0.5, 1 - 2**-24], dtype=torch.float64))  # float32 draws reach 0
    assert torch.isfinite(times).all() and (times > 0).all() and (times.diff() > 0).sum() >= 2
    if isinstance(process, VP):
        assert times[0] >= process.min_time and times[-1] <= process.max_time
    assert process.time_of_ratio(torch.tensor(0.7)).item() == pytest.approx(
        0.7 if isinstance(process, EDM) else 0.7 / 1.7
    )


def test_refusals() -> None:
    for name, process in (("uniform", EDM()), ("logit_normal", EDM()), ("log_normal", FlowMatching())):
        with pytest.raises(UserError, match="EDM|log_normal"):
            make_time_sampling(name, process)
    with pytest.raises(UserError, match="'beta'"):
        make_time_sampling("beta", FlowMatching())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="std"):
        make_time_sampling("logit_normal", FlowMatching(), std=0.0)
    with pytest.raises(UserError, match="shift"):
        make_time_sampling("uniform", VP("eps"), shift=0.0)
