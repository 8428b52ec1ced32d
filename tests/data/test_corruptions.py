import math

import pytest
import torch

from aigc_lightning.core import keyed
from aigc_lightning.data.corruptions import JPEG, Downscale, GaussianBlur, GaussianNoise, LowLight, corrupt
from aigc_lightning.errors import UserError

ALL = [GaussianBlur((0.5, 2.0)), LowLight((0.2, 0.8)), GaussianNoise((5.0, 30.0)), JPEG((20.0, 80.0)), Downscale(2)]


def pictures(count=4, channels=3, height=16, width=24):
    smooth = keyed.normal((count, channels, height // 4, width // 4), 1) * 40 + 128
    large = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    return large.clamp(0, 255).to(torch.uint8)


def flat(value, channels=3, side=64):
    return torch.full((1, channels, side, side), value, dtype=torch.uint8)


def keys(count):
    return [(0, 0, index) for index in range(count)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_happens_to_an_image_depends_on_its_key_alone(channels):
    images = pictures(4, channels)
    together = corrupt(images, ALL, keys(4))
    assert together.dtype == torch.uint8 and together.shape == (4, channels, 8, 12)
    assert torch.equal(together[2:3], corrupt(images[2:3], ALL, [(0, 0, 2)]))
    assert not torch.equal(together[2:3], corrupt(images[2:3], ALL, [(0, 1, 2)]))


def test_noise_has_its_standard_deviation_and_is_independent_of_place_and_channel():
    noise = corrupt(flat(128, side=200), [GaussianNoise(20.0)], keys(1)).float()[0] - 128
    assert abs(noise.mean()) < 0.5 and abs(noise.std() - 20) < 0.3
    assert abs((noise[0] * noise[1]).mean()) < 10 and abs((noise[:, 1:] * noise[:, :-1]).mean()) < 10


def test_a_range_of_strengths_is_drawn_from_evenly():
    spoilt = corrupt(flat(128).expand(200, -1, -1, -1), [GaussianNoise((0.0, 40.0))], keys(200)).float()
    found = spoilt.flatten(1).std(1)
    assert found.min() < 2 and found.max() > 38 and abs(found.mean() - 20) < 2


def test_noises_in_a_chain_are_independent():
    once = corrupt(flat(128, side=128), [GaussianNoise(20.0)], keys(1)).float()
    twice = corrupt(flat(128, side=128), [GaussianNoise(20.0), GaussianNoise(20.0)], keys(1)).float()
    assert abs(twice.std() - math.sqrt(2) * once.std()) < 0.5


def test_blur_spreads_a_point_as_a_normal_density():
    point = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    point[..., 10, 10] = 255
    blurred = corrupt(point, [GaussianBlur(2.0)], keys(1)).float()
    places = torch.arange(21) - 10
    weights = torch.exp(-(places**2) / 8) * (places.abs() <= 6)
    expected = 255 * torch.outer(weights, weights) / weights.sum() ** 2
    assert (blurred[0, 0] - expected).abs().max() <= 0.51
    assert torch.equal(corrupt(flat(77), [GaussianBlur(3.0)], keys(1)), flat(77))


def test_blur_wider_than_the_image_and_of_nothing_work():
    image = pictures(1, 3, 8, 8)
    assert corrupt(image, [GaussianBlur(30.0)], keys(1)).shape == image.shape
    assert torch.equal(corrupt(image, [GaussianBlur(0.0)], keys(1)), image)


def test_jpeg_loses_more_at_lower_quality():
    image = corrupt(pictures(1, 3, 64, 64), [GaussianNoise(20.0)], keys(1))
    errors = [(corrupt(image, [JPEG(q)], keys(1)).float() - image).square().mean() for q in (95, 50, 5)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_low_light_takes_light_and_not_grey_levels():
    assert torch.equal(corrupt(flat(180), [LowLight(1.0)], keys(1)), flat(180))
    assert corrupt(flat(180), [LowLight(0.0)], keys(1)).max() == 0
    # 188 is half of the light of white in sRGB.
    assert (corrupt(flat(255), [LowLight(0.5)], keys(1)).float() - 188).abs().max() <= 0.5


def test_downscale_keeps_means_and_refuses_other_sizes():
    image = pictures(1, 4, 16, 16)
    small = corrupt(image, [Downscale(4)], keys(1))
    assert small.shape == (1, 4, 4, 4)
    assert (small.float().mean((2, 3)) - image.float().mean((2, 3))).abs().max() < 4
    with pytest.raises(UserError, match="16x16"):
        corrupt(image, [Downscale(3)], keys(1))


def test_transparency_is_left_alone():
    image = pictures(2, 4)
    assert torch.equal(corrupt(image, ALL[:4], keys(2))[:, 3], image[:, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(-1.0), r"GaussianNoise\.std is -1"),
        (lambda: GaussianNoise((5.0, 2.0)), r"\(5\.0, 2\.0\)"),
        (lambda: GaussianBlur(-0.1), r"GaussianBlur\.sigma"),
        (lambda: JPEG(0.0), r"JPEG\.quality is 0"),
        (lambda: JPEG((50.0, 96.0)), r"JPEG\.quality"),
        (lambda: LowLight(1.5), r"LowLight\.exposure is 1\.5"),
        (lambda: Downscale(1), r"Downscale\.factor is 1"),
    ],
)
def test_impossible_strengths_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
