"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from aigc_lightning.losses import hinge, least_squares, nonsaturating, wasserstein

REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0, 1.0])


def softplus(number):
    return math.log(1 + math.exp(number))


BY_HAND = {
    nonsaturating: (
        (softplus(-2) + softplus(1)) / 2 + (softplus(0.5) + softplus(-3) + softplus(1)) / 3,
        (softplus(-0.5) + softplus(3) + softplus(-1)) / 3,
    ),
    hinge: ((0 + 2) / 2 + (1.5 + 0 + 2) / 3, -(0.5 - 3 + 1) / 3),
    least_squares: (((1 + 4) / 2 + (0.25 + 9 + 1) / 3) / 2, (0.25 + 16 + 0) / 3 / 2),
    wasserstein: ((0.5 - 3 + 1) / 3 - (2 - 1) / 2, -(0.5 - 3 + 1) / 3),
}


@pytest.mark.parametrize("loss", BY_HAND, ids=lambda loss: loss.__name__.rpartition(".")[2])
def test_by_hand(loss):
    for_d, for_g = BY_HAND[loss]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(for_d, rel=1e-6)
    assert loss.generator(FAKE).item() == pytest.approx(for_g, rel=1e-6)


@pytest.mark.parametrize("loss", BY_HAND, ids=lambda loss: loss.__name__.rpartition(".")[2])
def test_each_player_wants_what_it_should(loss):
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    slope_real, slope_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    # Real logits up and fake ones down, but where the hinge or the square is satisfied.
    assert (slope_real[REAL < 1] < 0).all() and (slope_fake[FAKE > 0] > 0).all()
    (slope,) = torch.autograd.grad(loss.generator(fake), fake)
    assert (slope[FAKE < 1] < 0).all()


def test_logits_may_be_large_and_of_any_shape():
    logits = torch.tensor([[500.0, -500.0]])
    assert nonsaturating.discriminator(logits, logits).item() == pytest.approx(500)
    assert nonsaturating.generator(logits).item() == pytest.approx(250)
