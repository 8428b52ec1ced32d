from typing import Any

import pytest
import torch
from torch import nn

from aigc_lightning.networks.unet import UNet, num_levels


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_the_papers_256_pixel_network():
    # 4x4 convolutions C64-C128-C256-C512-C512-C512-C512-C512 down; up the same widths, and from the second layer on
    # twice the inputs. The last layer alone has a bias; the first and the smallest maps have no norm.
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512)
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 3
    norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
    assert num_levels(256, 256) == 8
    for norm in ("batch", "instance"):
        assert count(UNet(3, 64, 8, norm)) == down + up + norms == 54_413_955


@pytest.mark.parametrize(
    ("height", "width", "levels"), [(256, 256, 8), (512, 512, 8), (128, 256, 7), (100, 100, 6), (64, 24, 4), (4, 4, 2)]
)
def test_number_of_levels(height, width, levels):
    assert num_levels(height, width) == levels


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (24, 100), (31, 31), (16, 64)], ids=str)
def test_images_keep_their_size_and_every_pixel_counts(size):
    torch.manual_seed(0)
    network = UNet(3, 4, num_levels(*size), "instance")
    images = torch.randn(2, 3, *size).requires_grad_()
    outputs = network(images)
    assert outputs.shape == images.shape and outputs.abs().max() <= 1
    outputs.square().sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=1) > 0).all()


def test_smaller_images_than_the_smallest_level_are_enlarged():
    network = UNet(1, 4, 5, "instance")
    assert network(torch.randn(1, 1, 9, 40)).shape == (1, 1, 9, 40)


def test_layers_of_equal_size_are_connected():
    torch.manual_seed(0)
    network = UNet(1, 4, 4, "none")
    images = torch.randn(1, 1, 16, 16)
    before = network(images)
    for parameter in network.decoder[-1].parameters():  # what comes from below is gone
        nn.init.zeros_(parameter)
    after = network(images)
    assert not torch.allclose(before, after) and after.std() > 1e-3


def test_noise_takes_features_away_and_keeps_their_mean():
    torch.manual_seed(0)
    network = UNet(1, 4, 5, "instance", dropout=0.25)
    shapes = network._noise_shapes(32, 32)
    assert shapes == [(32, 2, 2), (16, 4, 4), (8, 8, 8)]  # the first three layers of the decoder
    size = network.noise_size(32, 32)
    assert size == sum(channels * height * width for channels, height, width in shapes)
    masks = network._masks(torch.rand(50, size), 32, 32)
    assert [mask.shape[1:] for mask in masks] == shapes
    values = torch.cat([mask.flatten() for mask in masks])
    torch.testing.assert_close(values.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert values.mean().item() == pytest.approx(1, abs=0.01)
    images = torch.randn(1, 1, 32, 32)
    assert torch.equal(network(images), network(images))
    assert not torch.allclose(network(images), network(images, torch.rand(1, size)))
    network.dropout = 0.0
    assert torch.equal(network(images), network(images, torch.rand(1, size)))


def test_each_image_is_translated_alone():
    torch.manual_seed(0)
    network = UNet(3, 4, 4, "instance")
    images, noise = torch.randn(3, 3, 16, 20), torch.rand(3, network.noise_size(16, 20))
    alone = torch.cat([network(images[i : i + 1], noise[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(images, noise), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (3, 3)], ids=str)
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_few_pixels_are_doubled_as_by_a_transposed_convolution(size, norm):
    network = UNet(3, 2, 3, norm).double()
    layer: Any = network.decoder[0]
    features = torch.randn(2, 8, 1, 1, dtype=torch.float64, requires_grad=True)
    found, wanted = layer(features, size), nn.ConvTranspose2d.forward(layer, features, list(size))
    torch.testing.assert_close(found, wanted)
    slopes = torch.randn_like(found)
    inputs = [features, *layer.parameters()]
    for ours, theirs in zip(*(torch.autograd.grad(each, inputs, slopes) for each in (found, wanted)), strict=True):
        torch.testing.assert_close(ours, theirs)
