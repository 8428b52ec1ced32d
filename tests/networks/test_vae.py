import math

import pytest
import torch

from aigc_lightning.networks.vae import GaussianHead, MixtureHead, VAEDecoder, VAEEncoder, num_halvings


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("size", "number"),
    [((1, 1), 0), ((4, 4), 0), ((5, 9), 1), ((8, 8), 1), ((28, 28), 3), ((32, 64), 3), ((33, 33), 4), ((64, 64), 4)],
)
def test_the_shorter_side_ends_at_four_pixels_at_most(size, number):
    assert num_halvings(*size) == number
    assert min(size) <= 4 * 2**number


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (1, 28, 28), (4, 17, 31), (3, 16, 64)])
def test_any_size_is_encoded_and_decoded(shape):
    mean, log_variance = VAEEncoder(shape, 4, 5)(noise(2, *shape))
    assert mean.shape == log_variance.shape == (2, 5)
    assert VAEDecoder(5, shape, 4, 7)(mean).shape == (2, 7, *shape[1:])


def test_a_scale_that_is_given_is_kept():
    head = GaussianHead(2, scale=0.25)
    means, log_scales = head(noise(3, 2, 4, 4)).chunk(2, dim=1)
    assert torch.equal(means, noise(3, 2, 4, 4).tanh()) and not list(head.parameters())
    torch.testing.assert_close(log_scales, torch.full_like(log_scales, math.log(0.25)))


def test_a_learned_scale_belongs_to_its_channel_and_stays_above_half_a_grey_level():
    head = GaussianHead(2)
    assert head.excess is not None
    with torch.no_grad():
        head.excess[0] = -100.0
    log_scales = head(noise(3, 2, 4, 4))[:, 2:]
    expected = torch.tensor([1 / 255, 1 / 4 + 1 / 255]).log().view(1, 2, 1, 1)
    torch.testing.assert_close(log_scales, expected.expand_as(log_scales))


def test_the_components_of_a_mixture_start_apart():
    logits, means, log_scales = MixtureHead(3, 2)(torch.zeros(1, 15, 4, 4)).split([3, 6, 6], dim=1)
    assert logits.abs().max() == 0 and log_scales.unique().tolist() == [-1.0]
    assert means[0, :, 0, 0].tolist() == [-1, -1, 0, 0, 1, 1]  # by component, then channel
