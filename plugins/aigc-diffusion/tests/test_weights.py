"""Loss weights against their formulas."""

import pytest
import torch
from aigc_lightning.errors import UserError
from gaussian_data import PROCESSES, GaussianData

from aigc_diffusion.processes import EDM, VP, FlowMatching
from aigc_diffusion.weights import MinSNR, Uncertainty, make_loss_weight


def test_min_snr_of_each_prediction() -> None:
    numbers = torch.tensor([1.0, 40.0, 300.0, 700.0, 1000.0], dtype=torch.float64)
    for prediction, divisor in (
        ("x0", lambda snr: torch.ones_like(snr)),
        ("eps", lambda snr: snr),
        ("v", lambda snr: snr + 1),
    ):
        process = VP(prediction, "cosine")
        t = process.time(numbers)
        snr = process.ratio(t) ** -2
        expected = snr.clamp(max=5) / divisor(snr)
        assert torch.allclose(MinSNR(process).weights(t), expected)
        assert torch.allclose(make_loss_weight("min_snr", process)(torch.full((5,), 2.0), t), 2 * expected.float())
    # In flow matching errors of v are those of x0 divided by t^2.
    t = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64)
    expected = torch.tensor([0.0, 5 * 0.1**2, 0.5**2, 0.0], dtype=torch.float64)
    assert torch.allclose(MinSNR(FlowMatching()).weights(t), expected)


@pytest.mark.parametrize("name", PROCESSES)
def test_weights_are_finite(name: str) -> None:
    process = PROCESSES[name]
    times = process.spread(torch.linspace(0, 1, 50, dtype=torch.float64))
    for weight in ("none", "min_snr", "uncertainty", "adaptive"):
        losses = make_loss_weight(weight, process)(torch.ones(50), times)
        assert losses.shape == (50,) and losses.dtype == torch.float32 and torch.isfinite(losses).all()
    assert torch.equal(make_loss_weight("none", process)(torch.arange(50.0), times), torch.arange(50.0))


def test_uncertainty_learns_the_expected_error() -> None:
    process, data = FlowMatching(), GaussianData(0.0, 0.5)
    weight = Uncertainty(process)
    assert not weight.state_dict().keys() & {"frequencies", "phases"}
    t = torch.linspace(0.02, 0.98, 200, dtype=torch.float64)
    errors = data.smallest_error(process, t).float()
    optimizer = torch.optim.LBFGS(weight.parameters(), lr=1, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight(errors, t).mean()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    assert (weight.log_expectation(t) - errors.log()).abs().max() < 0.05
    # There, what the network's gradient is multiplied by makes the weighted errors 1.
    assert torch.allclose(errors * (-weight.log_expectation(t)).exp(), torch.ones(200), atol=0.05)


def test_edm_starts_balanced() -> None:
    """The weights of EDM are in its predictions: errors of an untrained network of zeros are 1 at each level."""
    process, data = EDM(sigma_data=0.5), GaussianData(0.0, 0.5)
    t = process.spread(torch.linspace(0, 1, 9, dtype=torch.float64))
    assert torch.allclose(data.smallest_error(process, t), torch.ones(9, dtype=torch.float64))


def test_adaptive() -> None:
    errors = torch.tensor([0.5, 4.0], requires_grad=True)
    losses = make_loss_weight("adaptive", FlowMatching())(errors, torch.zeros(2))
    assert torch.allclose(losses, torch.ones(2), atol=2e-3)
    (gradient,) = torch.autograd.grad(losses.sum(), errors)
    assert torch.allclose(gradient, 1 / (errors.detach() + 1e-3))


def test_refusals() -> None:
    with pytest.raises(UserError, match="'snr'"):
        make_loss_weight("snr", FlowMatching())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="gamma"):
        MinSNR(FlowMatching(), gamma=0.0)
