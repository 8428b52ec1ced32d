"""What private steps spend, which samples they take, and their gradients."""

import math

import pytest
import torch

from aigc_lightning.core.privacy.accountant import epsilon_spent, noise_multiplier
from aigc_lightning.core.privacy.gradients import add_noise, clipped_sum, loss_with, trained
from aigc_lightning.core.privacy.poisson import PoissonSampler
from aigc_lightning.core.privacy.settings import Privacy
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.errors import UserError
from aigc_lightning.models import VAE, Autoencoder
from aigc_lightning.testing import NoiseImages


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "expected"),
    [  # computed with the accountant of opacus 1.6
        (256 / 60000, 1.1, 14040, 2.594363),
        (0.01, 1.0, 1000, 2.101365),
        (64 / 1437, 2.0, 500, 2.436182),
        (0.2, 0.8, 50, 16.921099),
    ],
)
def test_epsilon_is_that_of_another_accountant(rate, noise, steps, expected):
    assert epsilon_spent(rate, noise, steps, 1e-5) == pytest.approx(expected, abs=1e-4)


def test_full_batches_are_the_plain_gaussian_mechanism():
    assert epsilon_spent(1.0, 3.0, 4, 1e-5) == pytest.approx(epsilon_spent(1 - 1e-9, 3.0, 4, 1e-5), rel=1e-4)
    assert epsilon_spent(1.0, 3.0, 0, 1e-5) == 0


def test_the_noise_is_the_least_that_keeps_the_budget():
    noise = noise_multiplier(0.05, 200, 3.0, 1e-5)
    assert epsilon_spent(0.05, noise, 200, 1e-5) <= 3.0 < epsilon_spent(0.05, noise * 0.999, 200, 1e-5)
    assert epsilon_spent(0.05, noise, 201, 1e-5) > 3.0
    assert noise_multiplier(0.001, 1, 90.0, 1e-5) == 0.2
    with pytest.raises(ValueError, match="cannot be reached"):
        noise_multiplier(1.0, 10**9, 1e-3, 1e-5)


def test_batches_take_each_sample_independently():
    sampler = PoissonSampler(50, 10, secret=7)
    sizes = [sampler.count(place) for place in range(2000)]
    variance = torch.tensor(sizes).float().var().item()
    assert sum(sizes) / 2000 == pytest.approx(10, abs=0.3) and variance == pytest.approx(8, abs=1)  # binomial
    batches = list(sampler)
    assert len(batches) == 5 and all(len(set(batch)) == len(batch) for batch in batches)
    resumed = PoissonSampler(50, 10, secret=7, position=lambda: 3)
    assert list(resumed)[:2] == batches[3:]
    assert list(PoissonSampler(50, 10, secret=8)) != batches


def test_an_empty_batch_holds_a_sample_that_does_not_count():
    sampler = PoissonSampler(30, 1, secret=3)
    empty = next(place for place in range(100) if sampler.count(place) == 0)
    batch = next(iter(PoissonSampler(30, 1, secret=3, position=lambda: empty)))
    assert len(batch) == 1 and sampler.count(empty) == 0


def test_the_number_of_samples_in_a_batch_is_shown_to_nothing():
    sampler = PoissonSampler(50, 10, secret=7)
    assert len({sampler.count(place) for place in range(20)}) > 5
    assert {(layout.start, layout.count, layout.total) for layout in map(sampler.layout, range(20))} == {(0, 10, 10)}


class Probe(Autoencoder):
    """Compares gradients inside a training step."""

    def training_step(self, batch, batch_idx):
        if not hasattr(self, "found") and len(batch["image"]) > 1:
            self.found = ()
            loss = super().training_step(batch, batch_idx)
            self.plain = torch.autograd.grad(loss, trained(self))
            own = trained(self), lambda sample: Autoencoder.training_step(self, sample, batch_idx)
            self.free = clipped_sum(self, batch, 1e9, *own)
            self.short = clipped_sum(self, batch, 1e-3, *own)
        return super().training_step(batch, batch_idx)


@pytest.fixture(scope="module")
def probe():
    data = NoiseImages(1, 8, 8, num_images=6, batch_size=6)
    model = Probe(data.spec, width=4)
    silent_trainer(max_steps=1, limit_val_batches=0, precision="64-true").fit(model, data)
    return model


def test_the_mean_of_the_samples_gradients_is_the_ordinary_gradient(probe):
    for one, other in zip(probe.free[0], probe.plain, strict=True):
        torch.testing.assert_close(one / 6, other, rtol=1e-7, atol=1e-9)


def test_no_sample_moves_the_sum_by_more_than_the_norm(probe):
    length = math.sqrt(sum(float(gradient.square().sum()) for gradient in probe.short[0]))
    assert 1e-3 < length <= 6e-3 * (1 + 1e-6)


class Drawing(VAE):
    """Keeps what single samples draw."""

    def training_step(self, batch, batch_idx):
        if len(batch["image"]) > 1:
            self.drawn = {}
            clipped_sum(self, batch, 1.0, trained(self), lambda sample: self.training_step(sample, batch_idx))
        else:
            self.drawn[batch["index"].item()] = self.uniform(1).item(), torch.rand(()).item()
        return super().training_step(batch, batch_idx)


def test_the_random_numbers_of_a_sample_do_not_depend_on_the_others():
    found = []
    for num_images in (4, 5):
        data = NoiseImages(1, 8, 8, num_images=num_images, batch_size=num_images)
        model = Drawing(data.spec, latent_size=2, width=4)
        silent_trainer(max_steps=1, limit_val_batches=0).fit(model, data)
        found.append(model.drawn)
    few, many = found
    assert len(set(many.values())) == 5 and few == {number: many[number] for number in range(4)}


def test_noise_follows_from_the_secret_and_the_step():
    drawn = {}
    for key in ((1, 0), (1, 1), (2, 0)):
        drawn[key] = torch.zeros(20000)
        add_noise([drawn[key]], 3.0, *key)
        assert drawn[key].std().item() == pytest.approx(3, rel=0.03)
    again = torch.zeros(20000)
    add_noise([again], 3.0, 1, 0)
    assert torch.equal(again, drawn[1, 0])
    assert len({float(values[0]) for values in drawn.values()}) == 3


def test_the_loss_hands_the_gradients_on():
    weight = torch.nn.Parameter(torch.randn(3))
    gradient = torch.tensor([1.0, -2.0, 0.5])
    loss = loss_with([weight], [gradient], torch.tensor(4.0))
    loss.backward()
    assert weight.grad is not None and loss.item() == 4 and torch.equal(weight.grad, gradient)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"delta": 1e-5}, "privacy.delta"),
        ({"clip": 1.0}, "privacy.clip"),
        ({"epsilon": 8.0}, "privacy.delta"),
        ({"epsilon": -1.0, "delta": 1e-5}, "privacy.epsilon"),
        ({"epsilon": 8.0, "delta": 1.0}, "privacy.delta"),
        ({"epsilon": 8.0, "delta": 1e-5, "clip": 0.0}, "privacy.clip"),
    ],
)
def test_settings_out_of_range_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        Privacy(**given)
