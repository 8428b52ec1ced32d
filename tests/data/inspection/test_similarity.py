import pytest
import torch
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.data.inspection.similarity import equal_groups, fingerprint, look_alikes


def picture(number, channels=3, height=40, width=60):
    """Return a smooth random picture."""
    coarse = keyed.normal((1, channels, 5, 6), number) * 50 + 128
    return functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 255).to(torch.uint8)


def test_equal_pixels_are_found_whatever_else_is_there():
    prints = [fingerprint(image) for image in (picture(1), picture(2), picture(1), picture(3), picture(2), picture(1))]
    assert equal_groups(prints) == [[0, 2, 5], [1, 4]]


def test_same_bytes_of_another_shape_are_not_equal():
    image = picture(1)
    assert equal_groups([fingerprint(image), fingerprint(image.reshape(3, 60, 40))]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: functional.interpolate(image[None].float(), (20, 30), mode="area")[0].to(torch.uint8),
        lambda image: (image.float() * 0.8).to(torch.uint8),
        lambda image: (image.float() + 4 * keyed.normal(tuple(image.shape), 9)).clamp(0, 255).to(torch.uint8),
    ],
    ids=["smaller", "darker", "noisy"],
)
def test_small_changes_look_the_same(change):
    images = [picture(number) for number in range(20)]
    prints = [fingerprint(image) for image in (*images, change(images[13]))]
    assert [(first, second) for first, second, _ in look_alikes(prints)] == [(13, 20)]


def test_different_equal_and_plain_pictures_do_not():
    plain = [torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (10, 12, 200)]
    prints = [fingerprint(image) for image in (*(picture(number) for number in range(60)), picture(1), *plain)]
    assert look_alikes(prints) == []
    assert look_alikes([]) == []


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_work(channels):
    image = picture(1, channels)
    brighter = (image.float() * 0.9).to(torch.uint8)
    assert len(look_alikes([fingerprint(image), fingerprint(brighter)])) == 1
