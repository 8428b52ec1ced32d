import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from aigc_lightning.losses.kullback_leibler import from_standard_normal, with_free_bits


def test_divergence_agrees_with_torch_and_is_zero_at_the_prior():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(from_standard_normal(mean, log_variance), expected)
    assert from_standard_normal(torch.zeros(1, 1), torch.zeros(1, 1)).item() == 0
    assert from_standard_normal(torch.ones(1, 1), torch.zeros(1, 1)).item() == pytest.approx(0.5)


def test_what_is_free_costs_a_constant_and_has_no_slope():
    mean = torch.tensor([[2.0, 0.1], [1.0, 0.3]], requires_grad=True)
    divergence = from_standard_normal(mean, torch.zeros(2, 2))  # mean^2 / 2
    found = with_free_bits(divergence, 0.5, divergence.mean(0))
    torch.testing.assert_close(found, torch.tensor([2.0 + 0.5, 0.5 + 0.5]))
    found.sum().backward()
    assert mean.grad is not None and mean.grad.tolist() == [[2.0, 0.0], [1.0, 0.0]]


def test_without_free_nats_it_is_the_sum():
    divergence = torch.tensor([[0.0, 1.5], [math.pi, 0.25]])
    torch.testing.assert_close(with_free_bits(divergence, 0.0, divergence.mean(0)), divergence.sum(1))


def test_the_whole_batch_decides_what_is_free():
    divergence = torch.tensor([[0.1], [0.2]])
    assert with_free_bits(divergence, 0.5, torch.tensor([0.9])).tolist() == pytest.approx([0.1, 0.2])
