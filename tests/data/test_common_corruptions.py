import pytest
import torch

from aigc_lightning.core import keyed
from aigc_lightning.data.augment import Augment, augment
from aigc_lightning.data.common_corruptions import COMMON, CommonCorruption
from aigc_lightning.data.corruptions import corrupt
from aigc_lightning.errors import UserError


def pictures(count=1, channels=3, height=32, width=40):
    coarse = keyed.normal((count, channels, 5, 5), 3) * 50 + 120
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return smooth.round().clamp(0, 255).to(torch.uint8)


def change(image, kind, severity):
    spoilt = corrupt(image, [CommonCorruption(kind, severity)], [(5, 0, number) for number in range(len(image))])
    return (spoilt.float() - image).square().mean().item()


def test_there_are_the_fifteen_of_the_benchmark():
    assert len(COMMON) == 15 and {"shot_noise", "zoom_blur", "frost", "jpeg_compression"} < set(COMMON)


@pytest.mark.parametrize("kind", COMMON)
def test_severity_0_is_the_image_itself_and_5_is_worse_than_1(kind):
    image = pictures(4)
    assert change(image, kind, 0) == 0
    changes = [change(image, kind, severity) for severity in (1, 3, 5)]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("kind", COMMON)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_from_8_pixels_and_by_its_own_key_alone(kind, channels):
    for height, width in ((8, 8), (9, 30)):
        images = pictures(3, channels, height, width)
        worst = [CommonCorruption(kind, 5)]
        together = corrupt(images, worst, [(0, 0, number) for number in range(3)])
        assert together.shape == images.shape and together.dtype == torch.uint8
        assert torch.equal(together[1:2], corrupt(images[1:2], worst, [(0, 0, 1)]))
        assert torch.equal(together[:, 3:], images[:, 3:])  # transparency


def test_noises_have_their_strengths():
    grey = torch.full((1, 1, 200, 200), 128, dtype=torch.uint8)

    def deviation(kind, severity):
        return (corrupt(grey, [CommonCorruption(kind, severity)], [(0,)]).float() - 128).std().item() / 255

    assert abs(deviation("gaussian_noise", 1) - 0.08) < 0.002
    assert abs(deviation("shot_noise", 1) - (0.502 / 60) ** 0.5) < 0.003  # the variance of a Poisson number is its mean
    spoilt = corrupt(grey, [CommonCorruption("impulse_noise", 3)], [(0,)])
    assert abs((spoilt != 128).float().mean() - 0.09) < 0.01 and set(spoilt.unique().tolist()) == {0, 128, 255}


@pytest.mark.parametrize("kind", ["defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "pixelate"])
def test_blurs_leave_what_is_flat(kind):
    grey = torch.full((1, 3, 24, 24), 77, dtype=torch.uint8)
    assert torch.equal(corrupt(grey, [CommonCorruption(kind, 5)], [(0,)]), grey)


def test_contrast_and_brightness_do_what_they_say():
    image = pictures(channels=1)
    flatter = corrupt(image, [CommonCorruption("contrast", 2)], [(0,)]).float()
    assert (flatter.std() / image.float().std() - 0.3).abs() < 0.03
    dark = torch.tensor([40, 20, 10], dtype=torch.uint8).view(1, 3, 1, 1).expand(-1, -1, 8, 8)
    brighter = corrupt(dark, [CommonCorruption("brightness", 1)], [(0,)])[0, :, 0, 0].tolist()
    assert brighter == [66, 33, 16]  # the same hue and saturation


def test_a_range_of_severities_gives_all_of_them_equally_often():
    image = torch.full((1, 1, 8, 8), 100, dtype=torch.uint8)
    images, keys = image.expand(400, -1, -1, -1), [(0, 0, number) for number in range(400)]
    values = corrupt(images, [CommonCorruption("brightness", (1, 3))], keys)[:, 0, 0, 0]
    counts = values.unique(return_counts=True)[1].tolist()
    assert len(counts) == 3 and min(counts) > 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CommonCorruption("fogg"), "no corruption 'fogg'"),
        (lambda: CommonCorruption("fog", 6), "severity is 6"),
        (lambda: CommonCorruption("fog", (3, 2)), r"severity is \(3, 2\)"),
        (lambda: Augment(corrupt=1.5), "corrupt is 1.5"),
        (lambda: Augment(corrupt=0.5, severity=0), "severity is 0"),
        (lambda: Augment(corrupt=0.5, corruptions=["rain"]), "no corruption 'rain'"),
        (lambda: Augment(corruptions=["fog"]), "corrupt is 0"),
        (lambda: Augment(severity=2), "corrupt is 0"),
        (lambda: corrupt(pictures(1, 1, 7, 9), [CommonCorruption("fog", 1)], [(0,)]), "7x9"),
    ],
)
def test_what_is_impossible_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_augmentation_corrupts_the_stated_share_by_key():
    images, indices = pictures(1, 1, 8, 8).expand(200, -1, -1, -1), torch.arange(200).numpy()
    options = Augment(corrupt=0.3, corruptions=["brightness", "contrast"], severity=2)
    varied = augment(images, options, 0, 0 * indices, indices)
    share = (varied != images).flatten(1).any(1).float().mean().item()
    assert 0.2 < share < 0.4
    assert torch.equal(varied[50:60], augment(images[50:60], options, 0, 0 * indices[50:60], indices[50:60]))
    assert not torch.equal(varied, augment(images, options, 0, 0 * indices + 1, indices))
    assert torch.equal(images, augment(images, options, 0, 0 * indices, indices, kind="mask"))
