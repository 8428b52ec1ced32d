import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.data.augment import Augment, _reflected, augment, resized, resized_nearest
from aigc_lightning.errors import UserError

ALL = Augment(flip=True, crop=3, color=0.4, jitter=2)


def noise(num_images, channels=3, height=9, width=12):
    return (keyed.normal((num_images, channels, height, width), 1) * 60 + 128).clamp(0, 255).to(torch.uint8)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.sampled_from([1, 3, 4]))
def test_variation_does_not_depend_on_the_batch(batch_size, channels):
    images, epochs, indices = noise(12, channels), np.arange(12) // 5, np.arange(12) * 7
    together = augment(images, ALL, 3, epochs, indices)
    for first in range(0, 12, batch_size):
        part = slice(first, first + batch_size)
        assert torch.equal(augment(images[part], ALL, 3, epochs[part], indices[part]), together[part])


def test_variation_differs_by_seed_epoch_and_index():
    image = noise(1)

    def varied(seed, epoch, index):
        return augment(image, ALL, seed, np.array([epoch]), np.array([index]))

    variants = [varied(0, 0, 0), varied(1, 0, 0), varied(0, 1, 0), varied(0, 0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(variants) for b in variants[:i])


def test_half_of_the_images_are_mirrored():
    images = noise(1).expand(2000, -1, -1, -1)
    varied = augment(images, Augment(flip=True), 0, np.zeros(2000, int), np.arange(2000))
    kept = (varied == images).flatten(1).all(1)
    mirrored = (varied == images.flip(-1)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert abs(int(mirrored.sum()) - 1000) < 5 * 22.4  # five standard deviations


def test_crop_shifts_by_every_amount_and_reflects_the_border():
    image = torch.arange(8 * 8, dtype=torch.uint8).view(1, 1, 8, 8)
    varied = augment(image.expand(500, -1, -1, -1), Augment(crop=2), 0, np.zeros(500, int), np.arange(500))
    padded = np.pad(image[0, 0].numpy(), 2, mode="reflect")
    windows = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}
    assert {picture.numpy().tobytes() for picture in varied[:, 0]} == windows


@pytest.mark.parametrize(("height", "width", "reach"), [(2, 2, 1), (2, 7, 1), (5, 4, 3), (9, 12, 8), (16, 16, 4)])
def test_the_border_is_the_one_that_pytorch_reflects(height, width, reach):
    images = noise(3, 3, height, width)
    expected = functional.pad(images.float(), [reach] * 4, mode="reflect").to(torch.uint8)
    assert torch.equal(_reflected(images, reach), expected)


def test_variation_changes_nothing_in_what_it_is_given():
    images = noise(6, 4)
    before = images.clone()
    augment(images, ALL, 0, np.zeros(6, int), np.arange(6))
    assert torch.equal(images, before)


def test_color_leaves_shape_and_alpha_alone():
    images = noise(20, 4)
    varied = augment(images, Augment(color=1.0), 0, np.zeros(20, int), np.arange(20))
    assert torch.equal(varied[:, 3], images[:, 3])
    assert not torch.equal(varied[:, :3], images[:, :3])
    grey = noise(1, 1).expand(1, 3, -1, -1)
    varied = augment(grey, Augment(color=0.5), 0, np.zeros(1, int), np.arange(1))
    assert torch.equal(varied[:, 0], varied[:, 1]) and torch.equal(varied[:, 1], varied[:, 2])


def test_no_options_change_nothing():
    images = noise(4)
    assert torch.equal(augment(images, Augment(), 0, np.zeros(4, int), np.arange(4)), images)


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="crop is -1"):
        Augment(crop=-1)
    with pytest.raises(UserError, match="jitter is -1"):
        Augment(jitter=-1)
    with pytest.raises(UserError, match=r"color is 1\.5"):
        Augment(color=1.5)
    with pytest.raises(UserError, match="crop of 9 pixels does not fit 9x12 images"):
        augment(noise(1), Augment(crop=9), 0, np.zeros(1, int), np.zeros(1, int))


def test_jitter_enlarges_and_cuts_out_every_window():
    image = noise(1, 1, 6, 9)
    varied = augment(image.expand(400, -1, -1, -1), Augment(jitter=2), 0, np.zeros(400, int), np.arange(400))
    larger = resized(image, 8, 12)[0, 0].numpy()
    windows = {larger[y : y + 6, x : x + 9].tobytes() for y in range(3) for x in range(4)}
    assert {picture.numpy().tobytes() for picture in varied[:, 0]} == windows


def test_images_of_one_stream_are_varied_alike_and_those_of_others_are_not():
    images, epochs, indices = noise(20), np.zeros(20, int), np.arange(20)
    first, again, other = (augment(images, ALL, 3, epochs, indices, stream) for stream in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first != other).flatten(1).any(1).all()


EACH = [Augment(flip=True), Augment(crop=3), Augment(color=0.9), Augment(jitter=5), ALL]


@pytest.mark.parametrize("options", EACH, ids=str)
@pytest.mark.parametrize("kind", ["mask", "label_map"])
def test_masks_and_label_maps_get_no_new_values(options, kind):
    masks = noise(20, 1, 12, 12).ge(128).to(torch.uint8) * 255
    varied = augment(masks, options, 0, np.zeros(20, int), np.arange(20), kind=kind)
    assert varied.shape == masks.shape and varied.unique().tolist() == [0, 255]


@pytest.mark.parametrize("options", EACH, ids=str)
def test_masks_move_with_their_images(options):
    masks = torch.zeros(20, 1, 16, 16, dtype=torch.uint8)
    masks[:, :, :9, 2:7] = 255
    place = 0, np.zeros(20, int), np.arange(20)
    images = augment(masks, Augment(**{**vars(options), "color": 0.0}), *place)
    varied = augment(masks, options, *place, kind="mask")
    assert ((images >= 128) == (varied >= 128)).float().mean() > 0.97
    if not options.jitter:  # which smooths the edges of images
        assert torch.equal(images, varied)
    if options.flip or options.crop or options.jitter:
        assert not torch.equal(varied, masks)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_maps_of_any_type_are_augmented(dtype):
    maps = noise(6, 1, 12, 12).ge(128).to(dtype)
    bytes_ = augment(maps.to(torch.uint8), ALL, 0, np.zeros(6, int), np.arange(6), kind="mask")
    assert torch.equal(augment(maps, ALL, 0, np.zeros(6, int), np.arange(6), kind="mask"), bytes_.to(dtype))


def test_nearest_neighbours_are_those_of_pixel_centres():
    ramp = torch.arange(6 * 4, dtype=torch.float32).view(1, 1, 6, 4)
    for size in ((6, 4), (9, 7), (12, 8), (3, 2)):
        expected = functional.interpolate(ramp, size, mode="nearest-exact")
        assert torch.equal(resized_nearest(ramp, *size), expected)
