import io

import numpy as np
import pytest
import torch
from image_files import expected
from image_files.icc_writer import ADOBE_RGB, DISPLAY_P3, SRGB, grey_profile, rgb_profile
from PIL import Image, ImageCms
from skimage import data

from aigc_lightning.data.decode import decode, load
from aigc_lightning.data.decoding.profiles import from_srgb, to_srgb
from aigc_lightning.errors import UserError

P3 = rgb_profile(DISPLAY_P3, 2.2)


def photograph():
    return Image.fromarray(data.astronaut()[:256, 128:384])


def stored(image, profile, file_format="PNG"):
    stream = io.BytesIO()
    image.save(stream, file_format, icc_profile=profile)
    return stream.getvalue()


@pytest.mark.parametrize("profile", [P3, rgb_profile(ADOBE_RGB, 2.2), rgb_profile(SRGB, 1.0)], ids=["P3", "Adobe", "1"])
def test_a_picture_looks_the_same_in_another_profile(profile):
    """Colours of sRGB, stored as numbers of a wider gamut, come back as they were."""
    wide = from_srgb(photograph(), profile)
    assert np.abs(np.asarray(wide, int) - np.asarray(photograph(), int)).max() > 10
    seen = decode(stored(wide, profile)).permute(1, 2, 0).numpy().astype(int)
    difference = np.abs(seen - np.asarray(photograph(), int))
    assert difference.mean() < 0.8 and np.percentile(difference, 99.9) <= 6  # what 8 bits in between leave of the dark


def test_keep_leaves_the_numbers():
    wide = from_srgb(photograph(), P3)
    kept = decode(stored(wide, P3), profile="keep")
    assert np.array_equal(kept.permute(1, 2, 0).numpy(), np.asarray(wide))
    grey = Image.new("L", (4, 4), 100)
    assert decode(stored(grey, grey_profile(1.0)), 1, profile="keep").unique().tolist() == [100]
    shown = round(255 * float(expected.encoded(np.array(100 / 255))))
    assert decode(stored(grey, grey_profile(1.0)), 1).unique().tolist() == [shown]
    with pytest.raises(UserError, match=r'data\.profile is "srbg"'):
        decode(stored(grey, P3), profile="srbg")  # type: ignore[arg-type]  # on purpose


def test_copies_of_srgb_change_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode(stored(photograph(), profile)).permute(1, 2, 0).numpy(), np.asarray(photograph()))
    assert to_srgb(photograph(), profile).tobytes() == photograph().tobytes()


def test_alpha_is_kept_beside_a_profile():
    image = photograph().convert("RGBA")
    image.putalpha(Image.linear_gradient("L"))
    opaque = decode(stored(photograph(), P3))
    seen = decode(stored(image, P3), 4)
    assert torch.equal(seen[:3], opaque) and np.array_equal(seen[3].numpy(), np.asarray(Image.linear_gradient("L")))


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_a_smaller_picture_is_that_of_the_converted_one(resize):
    """The conversion comes after the reduction where that is quicker, and nobody can see it."""
    wide = stored(from_srgb(photograph(), P3), P3)
    whole = stored(load(wide).image, None)
    for size in ((64, 64), (40, 64), (300, 300)):
        small, other = (decode(source, size=size, resize=resize).int() for source in (wide, whole))
        assert (small - other).abs().float().mean() < 0.5 and (small - other).abs().max() <= 10


def test_the_reduction_saves_the_conversion(monkeypatch):
    sizes = []
    apply = ImageCms.ImageCmsTransform.apply

    def watched(self, image, *more):
        sizes.append(image.size)
        return apply(self, image, *more)

    monkeypatch.setattr(ImageCms.ImageCmsTransform, "apply", watched)
    data_ = stored(photograph(), rgb_profile(DISPLAY_P3, 2.1))
    decode(data_, size=(32, 32))
    assert sizes[-1] == (32, 32)
    decode(data_, size=(512, 512))
    assert sizes[-1] == (256, 256)


def test_profiles_that_cannot_be_written_to_are_left_out():
    assert from_srgb(photograph(), b"\0" * 16 + b"RGB " + b"\0" * 108) is None
    assert from_srgb(photograph(), grey_profile(2.2)) is None
    assert from_srgb(photograph().convert("L"), P3) is None
