from typing import Any

import pytest
import torch
from torch import nn

from aigc_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator, num_doublings, spectrally_normalized


@pytest.mark.parametrize(
    ("height", "width", "number"),
    [(8, 8, 2), (12, 12, 2), (16, 16, 2), (28, 28, 2), (32, 32, 3), (64, 64, 4), (128, 128, 5), (36, 20, 2), (64, 8, 2),
     (32, 64, 3), (96, 96, 4), (100, 100, 2), (256, 512, 6)],
)  # fmt: skip
def test_number_of_doublings(height, width, number):
    assert num_doublings(height, width) == number
    assert height % 2**number == 0 and width % 2**number == 0


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_of_the_papers_64_pixel_networks():
    # Transposed convolutions 4x4 from 100 over 512, 256, 128 and 64 to 3 channels; scale and shift of four batch norms.
    convolutions = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 3
    assert count(DCGANGenerator(100, (3, 64, 64), 64, "batch")) == convolutions + 2 * (512 + 256 + 128 + 64)
    # Convolutions 4x4 from 3 over 64, 128, 256 and 512 to 1; the first and the last have a bias, the others a norm.
    convolutions = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1
    assert count(DCGANDiscriminator((3, 64, 64), 64, "batch")) == convolutions + 2 * (128 + 256 + 512)


def test_classes_add_their_inputs_alone():
    plain, classes = (DCGANGenerator(10, (1, 8, 8), 8, "batch", number) for number in (0, 3))
    assert (
        count(classes) - count(plain) == 3 * 16 * 2 * 2
    )  # three inputs more for the first layer of 16 channels of 2x2
    first = DCGANDiscriminator((1, 8, 8), 8, "none")
    assert count(DCGANDiscriminator((1, 8, 8), 8, "none", 3, "projection")) - count(first) == 3 * 16
    assert count(DCGANDiscriminator((1, 8, 8), 8, "none", 3, "concatenation")) - count(first) == 3 * 8 * 16


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm2d)]
)
def test_norms_are_in_both_networks(norm, kind):
    for network in (DCGANGenerator(4, (1, 32, 32), 8, norm), DCGANDiscriminator((1, 32, 32), 8, norm)):
        assert sum(isinstance(layer, kind) for layer in network.modules()) >= 2
        others = {nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d} - {kind}
        assert not any(isinstance(layer, tuple(others)) for layer in network.modules())


@pytest.mark.parametrize("norm", ["group", "instance", "none", "spectral"])
def test_each_image_is_judged_alone(norm):
    torch.manual_seed(0)
    network = DCGANDiscriminator((3, 16, 12), 8, norm)
    images = torch.randn(5, 3, 16, 12)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


def test_batch_norm_mixes_the_images():
    torch.manual_seed(0)
    network = DCGANDiscriminator((3, 16, 16), 8, "batch")
    images = torch.randn(5, 3, 16, 16)
    assert not torch.allclose(network(images)[:1], network(images[:2])[:1], rtol=1e-2)


def test_every_input_has_a_say():
    torch.manual_seed(0)
    images = torch.randn(2, 4, 12, 20, requires_grad=True)
    DCGANDiscriminator((4, 12, 20), 8, "none")(images).sum().backward()
    assert images.grad is not None and (images.grad != 0).all()
    latents = torch.randn(2, 6, requires_grad=True)
    DCGANGenerator(6, (4, 12, 20), 8, "none")(latents).square().sum().backward()
    assert latents.grad is not None and (latents.grad != 0).all()


def test_spectral_norm_is_on_every_layer_with_a_weight():
    network = spectrally_normalized(DCGANDiscriminator((1, 16, 16), 8, "spectral", 3, "projection"))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) >= 4 and all(nn.utils.parametrize.is_parametrized(layer, "weight") for layer in layers)
    network(torch.randn(2, 1, 16, 16), torch.tensor([0, 1]))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_first_layer_is_a_transposed_convolution_of_the_latents(norm, memory_format):
    layer: Any = DCGANGenerator(5, (3, 8, 12), 4, norm).double().to(memory_format=memory_format).layers[0]
    latents = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(latents), nn.ConvTranspose2d.forward(layer, latents[:, :, None, None]))
