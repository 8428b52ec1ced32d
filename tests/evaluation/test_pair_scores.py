import numpy as np
import pytest
from PIL import Image

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import FolderImages
from aigc_lightning.evaluation.pair_scores import score_pairs


def write(folder, images):
    folder.mkdir()
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return FolderImages(folder)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 200, (size, 20, 3), dtype=np.uint8) for name, size in {"a": 16, "b": 24}.items()}


def test_scores_are_means_over_images_of_any_size(tmp_path, pictures):
    target = write(tmp_path / "target", pictures)
    shifted = {name: pixels + np.uint8(10 if name == "a" else 20) for name, pixels in pictures.items()}
    section = score_pairs(write(tmp_path / "edited", shifted), target, None)
    assert section.scores["mae"] == pytest.approx((10 + 20) / 2 / 255)
    psnr = [20 * np.log10(255 / step) for step in (10, 20)]
    assert section.scores["psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert {"mse", "ssim"} < section.scores.keys() and "ms_ssim" not in section.scores
    assert section.left_out == {"ms_ssim": "It needs 161 pixels per side, but the images have 16x20."}
    assert section.baseline == {}


def test_a_mean_is_of_all_images_or_of_none(tmp_path, pictures):
    pictures["small"] = pictures["a"][:9]
    section = score_pairs(write(tmp_path / "a", pictures), write(tmp_path / "b", pictures), None)
    assert section.scores.keys() == {"mse", "mae", "psnr"}
    assert section.left_out["ssim"] == "It needs 11 pixels per side, but 1 of 3 images are smaller, one is 9x20."


def test_a_score_that_was_asked_for_is_named(tmp_path, pictures):
    target = write(tmp_path / "target", pictures)
    with pytest.raises(UserError, match=r"(?s)ms_ssim.*161 pixels.*16x20.*Leave ms_ssim out of --metrics"):
        score_pairs(target, target, None, ["psnr", "ssim", "ms_ssim"])


def test_the_unedited_images_are_the_baseline(tmp_path, pictures):
    target = write(tmp_path / "target", pictures)
    worse = write(tmp_path / "worse", {name: pixels + np.uint8(50) for name, pixels in pictures.items()})
    section = score_pairs(target, target, worse, ["mae", "psnr"])
    assert section.scores == {"mae": 0.0, "psnr": 100.0}
    assert section.baseline["mae"] == pytest.approx(50 / 255) and section.baseline_name == "input, not edited"


def test_sizes_that_differ_are_refused(tmp_path, pictures):
    target = write(tmp_path / "target", pictures)
    cut = write(tmp_path / "cut", {name: pixels[:15] for name, pixels in pictures.items()})
    with pytest.raises(UserError, match=r"15x20.*16x20"):
        score_pairs(cut, target, None)
