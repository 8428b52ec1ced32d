import pytest
import torch
from torch.nn import functional

from aigc_lightning.networks.efficientnet_lite import EfficientNetLite0


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EfficientNetLite0().eval().requires_grad_(False)


def test_it_has_the_published_number_of_parameters(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 33), (1, 5)])
def test_maps_of_any_size_are_halved_rounding_up(height, width, network):
    images = torch.zeros(2, 3, height, width)
    halves = [(-(-height // step), -(-width // step)) for step in (2, 4, 8, 16, 32)]
    shapes = [(2, channels, *half) for channels, half in zip((16, 24, 40, 112, 320), halves, strict=True)]
    assert [tuple(each.shape) for each in network.feature_maps(images)] == shapes
    assert network.features(images).shape == (2, 1280) and network(images).shape == (2, 1000)


def test_zeros_are_added_as_by_tensorflow(network):
    """With an even size, a kernel of 3 and a stride of 2, they are added below and on the right alone."""
    stem = network.stem[0]
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = functional.conv2d(functional.pad(images, (0, 1, 0, 1)), stem.weight, stride=2)
    torch.testing.assert_close(stem(images), expected)
    odd = functional.conv2d(functional.pad(images[..., :7, :7], (1, 1, 1, 1)), stem.weight, stride=2)
    torch.testing.assert_close(stem(images[..., :7, :7]), odd)


def test_weights_load_by_their_order(network):
    other = EfficientNetLite0()
    other.load_published({f"_layer{number}": value for number, value in enumerate(network.state_dict().values())})
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())
    with pytest.raises(ValueError, match="shorter"):
        other.load_published({"_layer": torch.zeros(1)})
