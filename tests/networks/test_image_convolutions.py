"""Convolutions next to images against torch's, with both derivatives."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from aigc_lightning.networks import image_convolutions
from aigc_lightning.networks.image_convolutions import ImageConv2d, ImageConvTranspose2d

GEOMETRIES = [(4, 2, 1), (2, 2, 0), (6, 3, 2), (3, 1, 1)]


def pair(ours, torchs, inputs, outputs, geometry):
    """Return one of ours and one of torch's with the same weights, in double precision."""
    one, other = ours(inputs, outputs, *geometry).double(), torchs(inputs, outputs, *geometry).double()
    other.load_state_dict(one.state_dict())
    return one, other


def check(one, other, maps):
    """Compare values, and first and second derivatives by the maps and by the weights."""
    torch.testing.assert_close(one(maps), other(maps))
    loss, expected = one(maps).pow(3).sum(), other(maps).pow(3).sum()
    first = torch.autograd.grad(loss, [maps, *one.parameters()], create_graph=True)
    wanted = torch.autograd.grad(expected, [maps, *other.parameters()], create_graph=True)
    torch.testing.assert_close(first, wanted)
    second = torch.autograd.grad(first[0].square().sum(), [maps, one.weight])
    torch.testing.assert_close(second, torch.autograd.grad(wanted[0].square().sum(), [maps, other.weight]))


@pytest.fixture
def used(monkeypatch):
    """Count how often images are computed by matrix products."""
    calls = []
    products = image_convolutions._images_of
    monkeypatch.setattr(image_convolutions, "_images_of", lambda *args: calls.append(1) or products(*args))
    return calls


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_are_those_of_torchs_transposed_convolution(geometry, channels, layout, used):
    one, other = pair(ImageConvTranspose2d, nn.ConvTranspose2d, 5, channels, geometry)
    maps = torch.randn(2, 5, 6, 4, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    check(one.to(memory_format=layout), other.to(memory_format=layout), maps)
    assert used


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_images_are_those_of_torchs_convolution(geometry, channels, layout, used):
    one, other = pair(ImageConv2d, nn.Conv2d, channels, 5, geometry)
    size, stride, padding = geometry
    sides = [(side - 1) * stride + size - 2 * padding for side in (6, 4)]
    images = torch.randn(2, channels, *sides, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    check(one.to(memory_format=layout), other.to(memory_format=layout), images)
    assert used


@pytest.mark.parametrize("kind", [ImageConv2d, ImageConvTranspose2d])
def test_derivatives_are_those_of_finite_differences(kind):
    layer = kind(2, 3, 4, 2, 1).double()
    maps = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def run(maps, weight):
        return functional_call(layer, {"weight": weight}, (maps,))

    assert torch.autograd.gradcheck(run, (maps, layer.weight))
    assert torch.autograd.gradgradcheck(run, (maps, layer.weight))


def test_borders_that_a_stride_leaves_out_have_no_gradient(used):
    one, other = pair(ImageConv2d, nn.Conv2d, 1, 5, (4, 2, 1))
    check(one, other, torch.randn(2, 1, 12, 9, dtype=torch.float64, requires_grad=True))
    assert not used


def test_other_sizes_many_channels_and_autocast_are_torchs(used):
    layer = ImageConvTranspose2d(5, 3, 4, 2, 1)
    maps = torch.randn(2, 5, 6, 4, requires_grad=True)
    assert layer(maps, [13, 9]).shape == (2, 3, 13, 9)
    assert ImageConvTranspose2d(5, 5, 4, 2, 1)(maps).shape == (2, 5, 12, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(maps).dtype == torch.bfloat16
    assert not used
    assert layer(maps, [12, 8]).shape == (2, 3, 12, 8) and len(used) == 1


def test_an_exported_graph_has_the_convolution_alone():
    layer = ImageConvTranspose2d(5, 3, 4, 2, 1).requires_grad_(False)
    graph = torch.export.export(layer, (torch.randn(2, 5, 6, 4),)).graph
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == ["aten.conv_transpose2d.input"]
