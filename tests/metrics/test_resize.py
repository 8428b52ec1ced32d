"""The golden arrays were computed apart from the package: by Pillow in float mode, and by TensorFlow 1's definition."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.resize import PROTOCOLS, resize, to_channels

IMAGE = [
    [0, 91, 182, 17, 108, 199],
    [37, 181, 69, 213, 101, 245],
    [148, 89, 30, 227, 168, 109],
    [77, 71, 65, 59, 53, 47],
    [80, 127, 174, 221, 12, 59],
]
GOLDEN = {
    ("tf1", 3): [
        [0.0, 136.5, 17.0, 153.5],
        [111.0, 81.333, 222.333, 150.0],
        [78.0, 95.5, 113.0, 45.167],
    ],
    ("clean", 3): [
        [54.774, 136.935, 101.403, 183.564],
        [111.394, 69.363, 160.823, 125.994],
        [85.469, 125.906, 107.888, 35.173],
    ],
    ("torchmetrics", 3): [
        [58.5, 128.619, 105.952, 176.071],
        [106.764, 81.679, 151.321, 126.236],
        [87.821, 121.889, 108.206, 44.75],
    ],
    ("tf1", 4): [
        [0.0, 68.25, 136.5, 140.75, 17.0, 85.25, 153.5, 199.0],
        [64.75, 134.688, 108.625, 98.562, 216.5, 142.438, 164.375, 211.0],
        [112.5, 88.125, 63.75, 71.375, 143.0, 118.625, 94.25, 78.0],
        [79.25, 104.562, 129.875, 155.188, 180.5, 61.812, 39.125, 56.0],
    ],
    ("clean", 4): [
        [0.0, 67.617, 143.004, 155.567, 60.386, 72.949, 148.337, 220.566],
        [81.909, 132.512, 110.905, 59.749, 222.973, 171.817, 150.21, 200.813],
        [112.916, 87.514, 55.957, 50.821, 114.047, 114.726, 86.58, 60.603],
        [73.67, 97.875, 130.995, 160.531, 187.806, 70.076, 16.816, 55.594],
    ],
    ("torchmetrics", 4): [
        [9.25, 74.406, 128.594, 142.781, 76.969, 91.156, 145.344, 210.5],
        [83.25, 120.385, 108.948, 73.51, 198.073, 162.635, 151.198, 188.333],
        [106.583, 89.031, 67.969, 60.24, 119.177, 111.448, 90.385, 72.833],
        [79.25, 100.344, 125.656, 150.969, 176.281, 81.594, 34.906, 56.0],
    ],
}


@pytest.mark.parametrize("key", GOLDEN, ids=lambda key: f"{key[0]} to {key[1]} rows")
def test_golden_arrays(key):
    golden = np.array(GOLDEN[key])
    found = resize(torch.tensor([[IMAGE]], dtype=torch.uint8), golden.shape, key[0])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0, 0].numpy(), golden, atol=6e-4)


def noise(height, width):
    return torch.randint(256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("size", [(32, 40), (400, 350)])
def test_clean_is_pillow_in_float_mode_channel_by_channel_at_the_size_of_inception(size):
    images = noise(*size)
    found = resize(images, (299, 299), "clean")
    for image, channels in zip(found, images.numpy().astype(np.float32), strict=True):
        for channel, pixels in zip(image, channels, strict=True):
            expected = np.asarray(Image.fromarray(pixels).resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
            np.testing.assert_allclose(channel.numpy(), expected, atol=0.01)  # of 255


@pytest.mark.parametrize("size", [(32, 40), (400, 350)])
def test_tf1_is_that_of_torch_fidelity_bit_for_bit(size):
    expected = interpolate_bilinear_2d_like_tensorflow1x(noise(*size).float(), size=(299, 299), align_corners=False)
    assert torch.equal(resize(noise(*size), (299, 299), "tf1"), expected)


def test_protocols_differ_by_many_grey_levels_and_agree_where_nothing_is_resized():
    images = noise(400, 400)
    small = [resize(images, (299, 299), protocol) for protocol in PROTOCOLS]
    assert min((a - b).abs().max() for a, b in zip(small, small[1:] + small[:1], strict=True)) > 20
    for protocol in PROTOCOLS:
        assert torch.equal(resize(images, (400, 400), protocol), images.float())


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UserError, match=r"'cleen'[\s\S]*clean"):
        resize(noise(4, 4), (2, 2), "cleen")


def test_channels():
    grey = torch.tensor([[[[0, 100, 255]]]], dtype=torch.uint8)
    assert torch.equal(to_channels(grey, 3), grey.expand(-1, 3, -1, -1))
    assert torch.equal(to_channels(grey, 4)[:, 3], torch.full((1, 1, 3), 255).byte())
    assert to_channels(to_channels(grey, 3), 1).tolist() == grey.tolist()
    colours = noise(5, 5)
    pillow = [np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")) for image in colours]
    assert (to_channels(colours, 1)[:, 0].int() - torch.from_numpy(np.stack(pillow)).int()).abs().max() <= 1
    half = torch.tensor([10, 20, 30, 51]).byte().view(1, 4, 1, 1)
    assert to_channels(half, 3).flatten().tolist() == [206, 208, 210]  # a fifth of the colour, four of white
    finer = half.double() + 0.25
    assert to_channels(finer, 3).dtype == torch.float64
    share = 51.25 / 255
    expected = [colour * share + 255 * (1 - share) for colour in (10.25, 20.25, 30.25)]
    assert to_channels(finer, 3).flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert to_channels(finer[:, :3], 1).item() == pytest.approx(0.299 * 10.25 + 0.587 * 20.25 + 0.114 * 30.25)
