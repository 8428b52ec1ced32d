import pytest
import torch
from torch import nn

from aigc_lightning.losses.penalties import gradient_penalty, r1


def test_penalties_of_a_linear_critic_by_hand():
    weights = torch.tensor([3.0, 4.0])  # of slope 5 everywhere
    critic = lambda images: images.flatten(1) @ weights  # noqa: E731
    real, fake = torch.randn(6, 1, 1, 2), torch.randn(6, 1, 1, 2)
    assert gradient_penalty(critic, real, fake, torch.rand(6)).item() == pytest.approx(16)
    assert r1(critic, real).item() == pytest.approx(25)


def test_penalties_of_a_square_by_hand():
    critic = lambda images: images.flatten(1).square().sum(dim=1)  # noqa: E731  (slope: twice the image)
    real, fake = torch.full((1, 1, 1, 4), 1.0), torch.full((1, 1, 1, 4), 3.0)
    assert r1(critic, real).item() == pytest.approx(4 * 2**2)
    for share, point in {1.0: 1.0, 0.0: 3.0, 0.25: 2.5}.items():
        expected = (4 * point - 1) ** 2  # four numbers of slope 2 * point: a norm of 4 * point
        assert gradient_penalty(critic, real, fake, torch.tensor([share])).item() == pytest.approx(expected)


def test_the_critic_learns_from_them_and_the_images_do_not():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    real = torch.randn(3, 1, 2, 2, requires_grad=True)
    fake = torch.randn(3, 1, 2, 2, requires_grad=True)
    for penalty in (gradient_penalty(critic, real, fake, torch.rand(3)), r1(critic, real)):
        critic.zero_grad()
        penalty.backward()
        gradients = [critic.get_parameter(f"{number}.weight").grad for number in (1, 3)]
        assert all(gradient is not None and gradient.any() for gradient in gradients)
        assert real.grad is None and fake.grad is None


def test_second_derivatives_are_right():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    real, fake, mix = torch.randn(3, 1, 2, 2).double(), torch.randn(3, 1, 2, 2).double(), torch.rand(3).double()
    weight = critic.get_parameter("1.weight")

    def values(new):
        changed = {"1.weight": new, "1.bias": critic[1].bias, "3.weight": critic[3].weight, "3.bias": critic[3].bias}
        apply = lambda images: torch.func.functional_call(critic, changed, (images,))  # noqa: E731
        return gradient_penalty(apply, real, fake, mix) + r1(apply, real)

    # Slopes are summed in 32 bits, so numerical differences are coarse.
    step = 1e-3
    direction = torch.randn_like(weight)
    (slope,) = torch.autograd.grad(values(weight), weight)
    numerical = (values(weight + step * direction) - values(weight - step * direction)) / (2 * step)
    assert (slope * direction).sum().item() == pytest.approx(numerical.item(), rel=1e-2)


def test_fakes_may_come_in_half_precision():
    real, fake = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1))
    half = gradient_penalty(critic, real, fake.bfloat16(), torch.rand(4))
    assert half.dtype == torch.float32 and half.isfinite()
