"""Plain operations on pictures, against values computed by hand."""

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.errors import UserError
from aigc_lightning.inference.operations import apply_operations, parse_operations

RANDOM = np.random.default_rng(0).integers(0, 256, (12, 20, 4), dtype=np.uint8)
MODES = {"L": RANDOM[:, :, 0], "RGB": RANDOM[:, :, :3], "RGBA": RANDOM}


def made(text, pixels):
    return np.asarray(apply_operations(Image.fromarray(pixels), parse_operations(text)))


@pytest.mark.parametrize("mode", MODES)
def test_geometry(mode):
    pixels = MODES[mode]
    expected = {
        "crop=4x6": pixels[3:9, 8:12],
        "crop=5x2+7+1": pixels[1:3, 7:12],
        "crop=20x12": pixels,
        "rotate=90": np.rot90(pixels, -1),
        "rotate=-90": np.rot90(pixels),
        "rotate=180": np.rot90(pixels, 2),
        "rotate=450": np.rot90(pixels, -1),
        "rotate=360": pixels,
        "flip=h": pixels[:, ::-1],
        "flip=v": pixels[::-1],
        "flip=h, flip=v,rotate=180": pixels,
        "crop=4x6,rotate=90": np.rot90(pixels[3:9, 8:12], -1),
    }
    for text, wanted in expected.items():
        assert (made(text, pixels) == wanted).all(), text


def test_an_oblique_rotation_goes_clockwise_and_keeps_the_corners_in():
    pixels = np.zeros((40, 40), np.uint8)
    turned = made("rotate=45", pixels)
    assert turned.shape == (58, 58) or turned.shape == (57, 57)
    assert turned[0, 0] == 255 and turned[28, 28] == 0
    assert made("rotate=45", np.zeros((40, 40, 4), np.uint8) + 255)[0, 0, 3] == 0
    bar = np.full((41, 41), 255, np.uint8)
    bar[:20, 20] = 0  # from the centre to the top: 12 o'clock
    centre = made("rotate=30", bar)
    rows, columns = np.nonzero(centre < 128)
    assert columns.mean() > centre.shape[1] / 2 and rows.mean() < centre.shape[0] / 2  # 1 o'clock


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["brightness", "contrast", "sharpen"])
def test_a_factor_of_1_changes_nothing(name, mode):
    assert (made(f"{name}=1", MODES[mode]) == MODES[mode]).all()


def test_colours():
    assert (abs(made("brightness=0.5", RANDOM[:, :, :3]).astype(int) - RANDOM[:, :, :3] / 2) <= 1).all()
    halves = np.repeat(np.array([[60, 140]], np.uint8), 4, axis=0)
    assert made("contrast=2", halves)[0].tolist() == [20, 180]
    edge = np.repeat(np.array([[60] * 4 + [140] * 4], np.uint8), 8, axis=0)
    assert made("sharpen=2", edge)[4, 3] < 60 < 140 < made("sharpen=2", edge)[4, 4]
    assert 60 < made("sharpen=0", edge)[4, 3] < made("sharpen=0", edge)[4, 4] < 140


def test_denoise_is_a_median():
    pixels = RANDOM[:, :, 0]
    result = made("denoise=3", pixels)
    for row, column in ((1, 1), (5, 9), (10, 18)):
        assert result[row, column] == np.median(pixels[row - 1 : row + 2, column - 1 : column + 2])


@pytest.mark.parametrize("text", ["brightness=0.3", "contrast=2", "sharpen=3", "denoise=5"])
def test_transparency_is_left_alone_by_colours(text):
    result = made(text, RANDOM)
    assert (result[:, :, 3] == RANDOM[:, :, 3]).all()
    assert (result[:, :, :3] == made(text, RANDOM[:, :, :3])).all()


@pytest.mark.parametrize(
    "text",
    [
        *("crop", "crop=", "crop=4", "crop=0x3", "crop=3x-1", "crop=3x3+1", "crop=3x3+-1+0", "crop=3x3 "[:-1] + "x"),
        *("rotate", "rotate=a", "rotate=nan", "rotate=inf", "flip=", "flip=x", "flip=H", "brightness=-1"),
        *("contrast=", "sharpen=inf", "denoise=2", "denoise=1", "denoise=33", "denoise=3.5", "denoise=-3"),
    ],
)
def test_values_that_are_refused(text):
    with pytest.raises(UserError) as caught:
        parse_operations(text)
    assert repr(text) in caught.value.what and f"{text.partition('=')[0]}=" in caught.value.hint


@pytest.mark.parametrize(("text", "hint"), [("crp=3x3", "crop"), ("flip=h,", ""), ("", "Known"), ("blur=3", "")])
def test_names_that_are_refused(text, hint):
    with pytest.raises(UserError, match="no operation") as caught:
        parse_operations(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["crop=21x3", "crop=3x13", "crop=4x4+17+0", "rotate=90,crop=20x3"])
def test_a_crop_beyond_the_picture(text):
    with pytest.raises(UserError, match="does not fit into a picture of"):
        made(text, RANDOM)
