from typing import Any

import pytest
import torch

from aigc_lightning.networks.resnet_generator import ResNetGenerator


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("num_blocks", "expected"), [(6, 7_837_699), (9, 11_378_179)])
def test_parameters_of_the_papers_networks(num_blocks, expected):
    # c7s1-64, d128, d256, residual blocks R256, u128, u64, c7s1-3; every convolution has a bias.
    ends = 49 * (3 * 64 + 64 * 3) + 64 + 3
    steps = 2 * 9 * (64 * 128 + 128 * 256) + 128 + 256 + 128 + 64
    blocks = num_blocks * 2 * (9 * 256 * 256 + 256)
    assert count(ResNetGenerator(3, 64, num_blocks)) == ends + steps + blocks == expected


@pytest.mark.parametrize("size", [(32, 32), (30, 41), (8, 9), (5, 3), (1, 1)], ids=str)
def test_images_keep_their_size(size):
    outputs = ResNetGenerator(3, 4, 1)(torch.randn(2, 3, *size))
    assert outputs.shape == (2, 3, *size) and outputs.abs().max() <= 1


def test_odd_sizes_are_not_shifted(monkeypatch):
    """Cut off behind, a larger image has the same result in front, but for what the norms see."""
    torch.manual_seed(0)
    network = ResNetGenerator(1, 4, 0).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.InstanceNorm2d):
            monkeypatch.setattr(layer, "forward", lambda features: features)
    images = torch.randn(1, 1, 40, 40)
    whole, part = network(images), network(images[..., :37, :35])
    torch.testing.assert_close(part[..., :20, :20], whole[..., :20, :20])


def test_each_image_is_translated_alone():
    torch.manual_seed(0)
    network = ResNetGenerator(3, 4, 2)
    images = torch.randn(3, 3, 16, 20)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


def test_blocks_add_to_what_they_get():
    torch.manual_seed(0)
    network = ResNetGenerator(1, 4, 2)
    images = torch.randn(1, 1, 16, 16)
    block: Any = network.layers[9]
    features = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(block(features) - block.layers(features), features)
    assert network(images).std() > 0
