import pytest
import torch

from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.errors import UserError


def test_splits_are_whole_and_stratified():
    data = Digits(size=8)
    train, val = data.train_source(), data.val_source()
    assert (len(train), len(val)) == (1437, 360)
    labels = val.labels(range(len(val)))
    assert labels is not None
    assert torch.bincount(labels).min() >= 34 and torch.bincount(labels).max() <= 38


def test_no_held_out_digit_is_trained_on():
    data = Digits(size=8)
    train, val = data.train_source(), data.val_source()
    # The published set holds no two equal digits, so equal pixels would mean the same digit.
    pixels = [picture.numpy().tobytes() for source in (train, val) for picture in source.images(range(len(source)))]
    assert len(set(pixels)) == 1797


@pytest.mark.parametrize("size", [8, 20, 32])
def test_images_match_the_spec(size):
    data = Digits(size=size)
    images = data.train_source().images([0, 5])
    assert images.dtype == torch.uint8 and images.shape == (2, *data.spec.shape) == (2, 1, size, size)
    assert data.spec.class_names == tuple("0123456789")


def test_eight_pixels_are_the_published_numbers():
    from sklearn.datasets import load_digits

    published = {(image * 255 / 16).round().astype("uint8").tobytes() for image in load_digits().images}
    source = Digits(size=8).train_source()
    assert {picture.numpy().tobytes() for picture in source.images(range(len(source)))} <= published


def test_smaller_than_the_digits_is_refused():
    with pytest.raises(UserError, match="8 or more"):
        Digits(size=7)
