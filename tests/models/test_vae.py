import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aigc_lightning.core.capabilities import Editor, Embedder, LatentGenerator, LikelihoodModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses.dequantisation import dequantised
from aigc_lightning.losses.likelihood import LIKELIHOODS
from aigc_lightning.models.vae import VAE

SPEC = ImageSpec(1, 8, 8)


def made(spec: ImageSpec = SPEC, **options) -> VAE:
    torch.manual_seed(0)
    return VAE(spec, **{"latent_size": 3, "width": 8, **options})


def images(count: int = 4, seed: int = 0, shape: tuple[int, ...] = SPEC.shape) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Running(VAE):
    """In a training run of its own making."""

    number = 0
    processes = 1

    @property
    def step(self) -> int:
        return self.number

    @property  # type: ignore[misc]  # nobody sets it
    def trainer(self):
        return SimpleNamespace(world_size=self.processes, strategy=self)

    def noise(self, count: int, *shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=torch.Generator().manual_seed(self.number))

    def reduce(self, value: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "mean"
        return torch.full_like(value, 9.0)  # the other processes are far above every floor


def running(spec: ImageSpec = SPEC, *, step: int = 0, processes: int = 1, **options) -> Running:
    torch.manual_seed(0)
    model = Running(spec, **{"latent_size": 3, "width": 8, **options})
    model.number, model.processes = step, processes
    return model


def step_loss(model: VAE, given: torch.Tensor) -> tuple[float, dict[str, float]]:
    loss = model.training_step({"image": given, "index": torch.arange(len(given))}, 0)
    return loss.item(), model.pop_recorded()


def test_it_has_its_capabilities():
    assert all(isinstance(made(), kind) for kind in (LatentGenerator, Editor, Embedder, LikelihoodModel))


def test_the_bound_of_a_known_decoder_by_hand():
    """A decoder whose mean is 0 and whose scale is 1: density and divergence can be written down."""
    model = made(scale=1.0)
    networks: Any = (model.encoder, model.decoder[0])
    for network in networks:
        for parameter in network.layers[-1].parameters():
            torch.nn.init.zeros_(parameter)
    found = model.bound(images(), torch.zeros(4, 3))
    expected = -0.5 * images().square().flatten(1).sum(1) - 64 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.log_likelihood, expected)
    assert found.divergence.abs().max() == 0  # a mean of 0 and a variance of 1 are the prior's


def of_levels(count: int = 4) -> torch.Tensor:
    return ((images(count) + 1) * 127.5).round() / 127.5 - 1


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic_mixture"])
def test_the_log_likelihood_is_the_bound(likelihood):
    """With a posterior that is the prior, it is the mean of the decoder's log-probability."""
    model = made(likelihood=likelihood)
    networks: Any = (model.encoder.layers[-1], model.decoder[0])
    for parameter in [*networks[0].parameters(), *networks[1].layers[0].parameters()]:
        torch.nn.init.zeros_(parameter)  # the decoder sees no latents
    given, seeds = of_levels(), [3, 4, 5, 6]
    found = model.log_likelihood(given, seeds)
    assert found.dtype == torch.float64 and found.shape == (4,) and not found.requires_grad
    with model.inference():
        output = model.decoder(torch.zeros(4, 3))
    if likelihood == "gaussian":
        values = dequantised(given, seeds)
        mean, log_scale = output.chunk(2, 1)
        expected = torch.distributions.Normal(mean, log_scale.exp()).log_prob(values) - math.log(127.5)
        expected = expected.flatten(1).sum(1)
    else:
        expected = LIKELIHOODS[likelihood].log_likelihood(given, output)
        assert (found < 0).all()
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-4)


def test_a_bound_depends_on_its_seed_alone():
    model, given = made(), of_levels()
    both = model.log_likelihood(given, [3, 4, 3, 4])
    torch.testing.assert_close(model.log_likelihood(given[1:2], [4]), both[1:2], rtol=1e-6, atol=1e-4)
    assert not torch.equal(model.log_likelihood(given, [5, 6, 7, 8]), both)
    assert torch.equal(model.log_likelihood(given), model.log_likelihood(given, [0] * 4))


def test_likelihoods_that_are_none_of_256_levels_are_refused():
    with pytest.raises(UserError, match="no probabilities of images of 256 levels"):
        made(likelihood="bernoulli").log_likelihood(of_levels())
    with pytest.raises(UserError, match="but got 4x8"):
        made().log_likelihood(of_levels()[:, :, :4])


def test_the_noise_picks_the_latent():
    model = made()
    seen = []
    model.decoder[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    noise = torch.full((4, 3), 2.0)
    model.bound(images(), noise)
    mean, log_variance = model.encoder(images())
    torch.testing.assert_close(seen[0], mean + 2 * torch.exp(log_variance / 2))


def test_the_loss_is_the_negative_bound_for_each_number():
    loss, recorded = step_loss(running(), images())
    assert loss == pytest.approx(recorded["train/negative_log_likelihood"] + recorded["train/divergence"], rel=1e-5)
    assert recorded["train/loss"] == pytest.approx(loss)


def test_beta_and_warm_up_weigh_the_divergence():
    model = made(beta=4.0, kl_warmup_steps=10)
    assert [model.divergence_weight(step) for step in (0, 5, 10, 99)] == [0, 2, 4, 4]
    assert made().divergence_weight(0) == 1
    loss, recorded = step_loss(running(beta=4.0, kl_warmup_steps=10, step=5), images())
    parts = recorded["train/negative_log_likelihood"] + 2 * recorded["train/divergence"]
    assert loss == pytest.approx(parts, rel=1e-5)


def test_free_nats_are_a_floor():
    loss, recorded = step_loss(running(free_nats=5.0), images())
    floor = 3 * 5.0 / 64  # three latent numbers, 64 pixels
    assert loss == pytest.approx(recorded["train/negative_log_likelihood"] + floor, rel=1e-5)


def test_free_nats_ask_all_processes_for_the_mean():
    loss, recorded = step_loss(running(free_nats=0.5, processes=2), images())
    assert loss == pytest.approx(recorded["train/negative_log_likelihood"] + recorded["train/divergence"], rel=1e-5)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "logistic_mixture"])
def test_it_learns_two_images(likelihood):
    model = running(ImageSpec(3, 8, 8), likelihood=likelihood, lr=5e-3, kl_warmup_steps=150)
    chosen: Any = model.configure_optimizers()
    optimizer = chosen["optimizer"]
    given = images(2, shape=(3, 1, 1)).expand(-1, -1, 8, 8).contiguous()
    losses = []
    for step in range(150):
        model.number = step
        loss = model.training_step({"image": given, "index": torch.arange(2)}, 0)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert (model.edit(given) - given).abs().mean() < 0.3
    assert (model.edit(given)[0] - model.edit(given)[1]).abs().mean() > 0.4  # it tells them apart


def test_samples_are_decoded_latents_and_leave_the_rest_alone():
    model = made().train()
    state = torch.get_rng_state()
    found = model.sample([3, 7])
    assert torch.equal(found, model.decode(model.latents([3, 7]))) and not found.requires_grad
    assert torch.equal(state, torch.get_rng_state()) and model.encoder.training
    torch.testing.assert_close(model.sample([7])[0], found[1])


def test_edits_are_decoded_embeddings():
    model = made()
    assert model.embed(images()).shape == (4, 3)
    assert torch.equal(model.edit(images()), model.decode(model.embed(images())))
    batch: Any = {"image": images()}
    assert torch.equal(model.predict_step(batch, 0), model.edit(images()))


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match="4x8"):
        made().edit(torch.zeros(1, 1, 4, 8))


def test_pairs_are_refused():
    with pytest.raises(UserError, match="paired"):
        made(ImageSpec(1, 8, 8, task="paired"))


def test_a_scale_belongs_to_the_gaussian():
    with pytest.raises(UserError, match="bernoulli"):
        made(likelihood="bernoulli", scale=1.0)


@pytest.mark.parametrize(
    "options",
    [{"latent_size": 0}, {"width": -1}, {"scale": 0.0}, {"beta": -1.0}, {"kl_warmup_steps": -1}, {"free_nats": -0.5},
     {"lr": 0.0}, {"warmup_steps": -1}, {"schedule_steps": 0}],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        made(**options)
