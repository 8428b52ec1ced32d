import pytest
import torch

from aigc_lightning.networks.autoencoder import Autoencoder
from aigc_lightning.networks.residual import PreactivationBlock, crop, pad_to_multiple


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 24), (17, 31)])
def test_padding_repeats_the_border_and_cropping_undoes_it(size):
    images = noise(2, 3, *size)
    padded = pad_to_multiple(images, 8)
    assert all(side % 8 == 0 and side - before < 8 for side, before in zip(padded.shape[-2:], size, strict=True))
    assert torch.equal(crop(padded, *size), images)
    assert torch.equal(padded[..., -1, -1], images[..., -1, -1])


def test_a_new_block_changes_nothing_and_learns():
    features = noise(2, 8, 5, 5)
    block = PreactivationBlock(8)
    assert torch.equal(block(features), features)
    block(features).square().sum().backward()
    gradient = next(block.layers[-1].parameters()).grad  # of its weight
    assert gradient is not None and gradient.abs().max() > 0


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 24), (33, 20)])
def test_any_size_comes_back_and_the_code_is_smaller(skips, size):
    network = Autoencoder(3, 4, 3, 1, code_channels=6, skips=skips)
    assert network(noise(2, 3, *size)).shape == (2, 3, *size)
    channels = 4 * 8 if skips else 6
    assert network.encode(noise(2, 3, *size)).shape == (2, channels, -(-size[0] // 8), -(-size[1] // 8))


def test_with_skip_connections_it_starts_as_the_identity():
    images = noise(2, 3, 9, 12)
    assert torch.equal(Autoencoder(3, 4, 2, 1, 6, skips=True)(images), images)


def test_without_skip_connections_all_goes_through_the_code():
    network = Autoencoder(1, 4, 2, 1, code_channels=3, skips=False)
    for parameter in (*network.expand.parameters(),):
        torch.nn.init.zeros_(parameter)
    first, second = network(noise(2, 1, 8, 8))
    assert torch.equal(first, second)


def test_no_halvings_is_a_plain_residual_network():
    assert Autoencoder(1, 4, 0, 2, 3, skips=True)(noise(1, 1, 3, 5)).shape == (1, 1, 3, 5)
