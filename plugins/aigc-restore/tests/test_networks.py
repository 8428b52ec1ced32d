"""The networks have the papers' sizes, enlarge images, and see as far as they say."""

import pytest
import torch
from aigc_lightning.inference.tiles import apply_in_tiles, equals_whole, free_tiling
from torch import nn

from aigc_restore.networks.edsr import EDSR
from aigc_restore.networks.rcan import RCAN
from aigc_restore.networks.rrdb import RRDB
from aigc_restore.networks.swinir import SwinIR, joined, shift_mask, windows
from aigc_restore.networks.unet_discriminator import UNetDiscriminator
from aigc_restore.networks.upsampling import SteadyConv2d

LIGHT = {"width": 60, "depths": (6,) * 4, "num_heads": (6,) * 4, "upsampler": "direct"}
TINY = {
    EDSR: {"width": 4, "num_blocks": 2},
    RRDB: {"width": 4, "num_blocks": 1, "growth": 2},
    RCAN: {"width": 4, "num_groups": 2, "num_blocks": 2, "reduction": 2},
    SwinIR: {"width": 8, "depths": (2,), "num_heads": (2,), "side": 4},
}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("kind", "scale", "options", "parameters"),
    [
        (EDSR, 2, {}, 1_369_859),
        (EDSR, 3, {}, 1_554_499),
        (EDSR, 4, {}, 1_517_571),
        (EDSR, 4, {"width": 256, "num_blocks": 32, "residual_scale": 0.1}, 43_089_923),
        (RRDB, 4, {}, 16_697_987),
        (RCAN, 4, {}, 15_592_355),
        (SwinIR, 4, {}, 11_900_199),
        (SwinIR, 4, LIGHT, 929_628),
    ],
)
def test_networks_have_as_many_parameters_as_in_their_papers(kind, scale, options, parameters):
    with torch.device("meta"):
        assert count(kind(3, scale, **options)) == parameters


@pytest.mark.parametrize("kind", TINY)
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_images_of_any_size_are_enlarged(kind, scale):
    network = kind(3, scale, **TINY[kind])
    assert network(torch.rand(2, 3, 9, 6)).shape == (2, 3, 9 * scale, 6 * scale)


def shown_reach(network: nn.Module, scale: int, size: int) -> int:
    """Return how far from a pixel of the image its change is seen, in pixels of the image."""
    images = torch.rand(1, 1, size, size, dtype=torch.float64)
    images.requires_grad_()
    middle = size // 2
    slope = torch.zeros(size, dtype=torch.float64)
    for row in range(scale):
        output = network(images)[0, 0, middle * scale + row, middle * scale]
        slope += torch.autograd.grad(output, images)[0].abs().sum(dim=(0, 1, 3))
    seen = slope.nonzero().flatten()
    return max(middle - int(seen.min()), int(seen.max()) - middle)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", [EDSR, RRDB])
def test_convolutions_see_exactly_as_far_as_they_say(kind, scale):
    network = kind(1, scale, **TINY[kind]).double()
    for module in network.modules():  # activations and weights that let everything through
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_()
            module.bias.data.fill_(1)
    assert shown_reach(network, scale, 2 * network.reach + 9) == network.reach


@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_give_the_same_as_the_whole_image(scale):
    network = EDSR(3, scale, **TINY[EDSR]).eval()
    image, side = torch.rand(3, 150, 190), 8 * network.reach
    assert equals_whole(network.reach, side) and not equals_whole(network.reach, side - 1)
    tiling = free_tiling(150, 190, 1, side, network.reach)
    assert len(tiling) > 1
    with torch.no_grad():
        whole = network(image[None])[0]
        pieces = apply_in_tiles(network, image, tiling, batch_pixels=side**2, scale=scale)
        torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)
        # Tiles that overlap less show what the overlap is for.
        narrow = apply_in_tiles(network, image, free_tiling(150, 190, 1, 24), batch_pixels=side**2, scale=scale)
    assert (narrow - whole).abs().max() > 1e-3


def test_channel_attention_sees_the_whole_image():
    network = RCAN(1, 2, **TINY[RCAN])
    images = torch.rand(1, 1, 64, 64, requires_grad=True)
    network(images)[0, 0, 0, 0].backward()
    assert images.grad[0, 0, -1, -1] != 0 and network.reach is None


def test_windows_can_be_joined_again():
    features = torch.rand(2, 8, 12, 3)
    cut = windows(features, 4)
    assert cut.shape == (2, 6, 16, 3)
    torch.testing.assert_close(cut[0, 1], features[0, :4, 4:8].reshape(16, 3))
    assert torch.equal(joined(cut, 4, 8, 12), features)


def test_shifted_windows_do_not_look_across_the_border():
    mask = shift_mask(8, 8, 4, torch.device("cpu"))
    assert mask.shape == (4, 1, 16, 16) and mask[0].all()
    corner = mask[3, 0, 0].view(4, 4)  # what the first pixel of the last window sees: its own quarter
    assert corner[:2, :2].all() and corner.sum() == 4


def test_the_u_net_judges_every_pixel():
    logits = UNetDiscriminator(3, 4)(torch.rand(2, 3, 16, 24))
    assert logits.shape == (2, 1, 16, 24)
    # Real-ESRGAN's has 64 features and 4,376,897 parameters.
    assert count(UNetDiscriminator(3, 64)) == 4_376_897


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_steady_sub_pixel_layers_keep_even_areas_even(scale):
    plain, steady = (EDSR(3, scale, **TINY[EDSR], steady=steady).eval() for steady in (False, True))
    steady.load_state_dict(plain.state_dict())  # a run can begin with the weights of one that is not
    even = torch.full((1, 3, 24, 24), 0.3)
    inner = slice(9 * scale, -9 * scale)  # away from the borders, where zeros enter
    with torch.no_grad():
        spread = [float(network(even)[0, 0, inner, inner].std()) for network in (plain, steady)]
    assert spread[0] > 1e-3 and spread[1] < 1e-6


def test_a_steady_convolution_with_equal_sums_is_a_convolution():
    layer = SteadyConv2d(3, 2)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(parameter.unflatten(0, (3, 4))[:, :1].expand(-1, 4, *parameter.shape[1:]).flatten(0, 1))
    features = torch.randn(2, 3, 5, 6)
    expected = nn.functional.conv2d(features, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(features), expected)
