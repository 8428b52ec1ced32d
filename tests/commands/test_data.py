import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.cli import main

SMALL = ["--data.size", "16", "--data.num_train", "40", "--data.num_val", "10"]


def write(root, name, seed, size=(60, 48)):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


def folder(root):
    """Write 12 training images of two classes, 6 held-out ones, and what is wrong with some of them."""
    for number in range(12):
        write(root, f"train/{'cat' if number < 9 else 'dog'}/{number}.png", number, (60, 48 + number % 2))
    for number in range(6):
        write(root, f"val/{'cat' if number < 3 else 'dog'}/{number}.png", 100 + number)
    write(root, "train/cat/again.png", 4)  # the pixels of train/cat/4.png
    write(root, "val/dog/leak.png", 11, (60, 49))  # those of train/dog/11.png
    with Image.open(root / "train/cat/2.png") as picture:
        picture.resize((30, 24)).save(root / "val/cat/small.jpg", quality=90)
    (root / "train/cat/bad.png").write_bytes(b"no image")
    return root


def report(capsys, *arguments):
    code = main(["data", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_listing_and_help_import_no_torch():
    program = """
import sys
from aigc_lightning.cli import main
for arguments in ([], ["--json"], ["--help"], ["preview", "--help"], ["check", "--help"], ["stats", "--help"]):
    try:
        code = main(["data", *arguments])
    except SystemExit as stop:
        code = stop.code
    assert code == 0, arguments
assert not {"torch", "numpy", "PIL"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_help_names_the_actions(capsys):
    assert main(["data", "--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"aigc data {action} DATA" in output for action in ("preview", "check", "stats"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["previw"], "`aigc data` has no 'previw'"),
        (["preview"], "aigc data preview needs data to work on"),
        (["check", "digits", "--data", "photos"], "names data twice"),
        (["stats", "digit"], "digit"),
        (["preview", "digits", "--num", "0"], "--num is 0"),
        (["preview", "digits", "--columns", "0"], "--columns is 0"),
        (["check", "digits", "--num", "0"], "--num is 0"),
        (["stats", "digits", "--num", "0"], "--num is 0"),
        (["stats", "digits", "--colour", "red"], "--colour"),
    ],
)
def test_mistakes_are_explained(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("task", ["generation", "paired", "unpaired"])
def test_preview_draws_what_a_model_sees(task, tmp_path, capsys):
    out = tmp_path / "grid.png"
    assert main(["data", "preview", "shapes", *SMALL, "--data.task", task, "--num", "6", "--out", str(out)]) == 0
    assert f"6 samples of Shapes, train, 16x16 RGB, {'8 classes, ' * (task == 'generation')}{task}" in (
        capsys.readouterr().out
    )
    with Image.open(out) as picture:
        assert picture.width > 2 * 96 and len(picture.getcolors(10**6)) > 50
        assert picture.text["data"].startswith("Shapes, train, 16x16 RGB")


def test_preview_shows_the_images_of_the_loader(tmp_path):
    from aigc_lightning.core.pictures import to_uint8
    from aigc_lightning.data.shapes import Shapes

    out = tmp_path / "grid.png"
    assert main(["data", "preview", "shapes", *SMALL, "--part", "val", "--num", "1", "--out", str(out)]) == 0
    image = to_uint8(next(iter(Shapes(size=16, num_val=10, batch_size=1).val_dataloader()))["image"])[0]
    expected = image.repeat_interleave(6, 1).repeat_interleave(6, 2).permute(1, 2, 0).numpy()
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, expected.shape)[:, :, 0]
    assert (windows == expected).all((-3, -2, -1)).sum() == 1


def test_preview_of_smaller_degraded_images_and_of_a_config(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "data:\n  class_path: degraded_images\n  init_args:\n    data: {class_path: digits, init_args: {size: 16}}\n"
        "    corruptions: [{class_path: Downscale, init_args: {factor: 4}}]\n"
    )
    assert main(["data", "preview", str(config), "--num", "3", "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").exists()


def test_check_finds_what_is_wrong(tmp_path, capsys):
    root = folder(tmp_path / "pictures")
    code, found = report(capsys, "check", "image_folder", "--data.root", str(root))
    assert code == 1
    assert found["images"] == {"train": 13, "val": 8}
    assert found["sizes"] == {"48x60": 13, "49x60": 7, "24x30": 1} and found["modes"] == {"RGB": 21}
    assert list(found["bad"]) == [str(root / "train/cat/bad.png")]
    assert found["equal"] == [["train/cat/4.png", "train/cat/again.png"]]
    assert found["overlap"] == [["train/dog/11.png", "val/dog/leak.png"]]
    assert found["alike"] == [["train/cat/2.png", "val/cat/small.jpg"]] and found["alike_over_parts"] == 1


def test_check_says_it_in_words(tmp_path, capsys):
    root = folder(tmp_path / "pictures")
    assert main(["data", "check", "image_folder", "--data.root", str(root)]) == 1
    output = capsys.readouterr().out
    assert "images   13 train, 8 val" in output
    assert "train/cat/4.png = train/cat/again.png" in output
    assert "1 pairs look the same, 1 of them in several parts" in output


def test_check_of_good_data_ends_with_0(capsys):
    code, found = report(capsys, "check", "shapes", *SMALL)
    assert code == 0 and found["images"] == {"train": 40, "val": 10} and found["modes"] == {"RGB": 50}


def test_check_compares_the_files_of_two_domains_with_their_own_kind(tmp_path, capsys):
    for number in range(8):
        write(tmp_path, f"A/{number}.png", number)
        write(tmp_path, f"B/{number}.png", number)
    for name in (["paired_images", "--data.pairs", "folders"], ["unpaired_images"]):
        code, found = report(capsys, "check", *name, "--data.root", str(tmp_path))
        assert code == 0 and sum(found["images"].values()) == 16


def test_stats_count_classes_and_average_pixels(tmp_path, capsys):
    from aigc_lightning.data.digits import Digits

    out = tmp_path / "stats.png"
    code, found = report(capsys, "stats", "digits", "--data.size", "8", "--out", str(out))
    source = Digits(size=8).train_source()
    pixels = source.images(range(len(source))).double() / 255
    image = found["parts"]["train"]["images"]["image"]
    assert code == 0 and found["parts"]["train"]["samples"] == 1437
    assert image["mean"][0] == pytest.approx(pixels.mean().item(), abs=1e-4)
    assert image["std"][0] == pytest.approx(pixels.std().item(), abs=1e-4)
    assert sum(image["histogram"][0]) == pytest.approx(1, abs=1e-3)
    assert sum(found["parts"]["train"]["labels"].values()) == 1437 and found["classes"] == list("0123456789")
    with Image.open(out) as picture:
        assert picture.width > 500


def test_stats_tell_unbalanced_classes_and_sizes_of_files(tmp_path, capsys):
    root = folder(tmp_path / "pictures")
    (root / "train/cat/bad.png").unlink()
    assert main(["data", "stats", "image_folder", "--data.root", str(root)]) == 0
    output = capsys.readouterr().out
    assert "21 files, RGB (21); smallest, median and largest: heights 24 to 48 to 49, widths 30 to 60 to 60" in output
    assert "train: 2 classes, the largest has 3.33 times the images of the smallest; data.balanced true" in output
    assert "val: 2 classes, the largest has 1 times the images of the smallest\n" in output
    assert f"cat  10  {'#' * 40}" in output and f"dog  3   {'#' * 12}\n" in output


def test_stats_count_captions_and_fields(capsys):
    _, found = report(capsys, "stats", "shapes", *SMALL)
    captions = found["parts"]["train"]["captions"]
    assert captions["number"] == 40 and 30 < captions["distinct"] <= 40 and 6 < captions["mean_words"] < 16
    _, found = report(capsys, "stats", "shapes", *SMALL, "--data.task", "unpaired")
    assert [*found["parts"]["val"]["images"]] == ["image_a", "image_b"]
    assert found["parts"]["val"]["images"]["image_a"]["mean"][0] > found["parts"]["val"]["images"]["image_b"]["mean"][0]
