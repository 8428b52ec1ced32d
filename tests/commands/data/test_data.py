import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from aigc_lightning.cli import main
from aigc_lightning.data.decoding import formats
from aigc_lightning.data.folders import find_images
from aigc_lightning.data.folders.captioned_images import CaptionedImages
from aigc_lightning.data.folders.image_folder import ImageFolder

BROKEN_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # says that five entries follow
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
    assert f"6 samples of Shapes, train, 16x16 RGB, {'8 classes, captions, ' * (task == 'generation')}{task}" in (
        capsys.readouterr().out
    )
    with PngImageFile(out) as picture:
        assert picture.width > 2 * 96 and len(picture.getcolors(10**6) or ()) > 50
        assert picture.text["data"].startswith("Shapes, train, 16x16 RGB")


def test_preview_shows_the_images_of_the_loader(tmp_path):
    from aigc_lightning.core.io.pictures import to_uint8
    from aigc_lightning.data.sets.shapes import Shapes

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
    assert "1 pair looks the same, 1 of them in several parts" in output


def test_check_names_bad_samples_of_shards(tmp_path, capsys):
    from aigc_lightning.data.shards.scan import scan_shard

    root, shards = folder(tmp_path / "pictures"), tmp_path / "shards"
    arguments = ["data", "shard", str(root), str(shards), "--samples", "5", "--max-bad", "0.1"]
    assert main(arguments) == 0
    path = shards / "train-000001.tar"
    row, content = scan_shard(path).rows[2], bytearray(path.read_bytes())
    content[row["offset"] : row["offset"] + 30] = bytes(30)
    path.write_bytes(content)
    (shards / "train-000002.tar").write_bytes(b"cut")
    (shards / "train-000009.tar").write_bytes(b"new")
    capsys.readouterr()
    code, found = report(capsys, "check", "shards", "--data.root", str(shards), "--data.size", "16")
    member = scan_shard(path).members[2]
    assert code == 1 and found["images"] == {"train": 9, "val": 8}
    names = [f"{path}, {member}", str(shards / "train-000002.tar"), str(shards / "train-000009.tar")]
    assert sorted(found["bad"]) == sorted(names)
    assert "none of" in found["bad"][names[0]] and "it has 3 bytes" in found["bad"][names[1]]
    assert len(found["equal"]) == 1  # the one of the folder, and none of an image that stands in for another


def test_check_names_bad_files_of_a_prepared_folder(tmp_path, capsys, monkeypatch):
    from aigc_lightning.data.folders import files

    root, target = folder(tmp_path / "pictures"), tmp_path / "prepared"
    assert main(["data", "prepare", str(root), str(target), "--size", "32", "--workers", "1"]) == 0
    for limit in (10_000, 0):  # where bad ones are left out, and where others stand in for them
        monkeypatch.setattr(files, "CHECKED_FILES", limit)
        capsys.readouterr()
        code, found = report(capsys, "check", "image_folder", "--data.root", str(target), "--data.size", "32")
        assert code == 1 and found["images"] == {"train": 13, "val": 8}
        assert {path: "none of" in reason for path, reason in found["bad"].items()} == {
            str(root / "train/cat/bad.png"): True
        }
        assert found["equal"] == [["train/cat/4.png", "train/cat/again.png"]]


def test_check_names_bad_samples_of_data_that_a_plugin_brings(tmp_path):
    from aigc_lightning.commands.data.check import as_text, check
    from aigc_lightning.core.spec import ImageSpec
    from aigc_lightning.data.base import ArraySource, ImageDataModule
    from aigc_lightning.data.decode import CorruptImageError

    class Source(ArraySource):
        def images(self, indices):
            if 3 in indices:
                raise CorruptImageError("archive.bin\x1b", "its block 3 is damaged")
            if 5 in indices:
                raise EOFError("nothing left")
            return super().images(indices)

    class Plugin(ImageDataModule):
        spec = ImageSpec(3, 8, 8)

        def train_source(self):
            return Source(torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8) * 30)

        def val_source(self):
            return ArraySource(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))

    found = check(Plugin(), 100)
    assert found["images"] == {"train": 6, "val": 2}
    assert found["bad"] == {"archive.bin\x1b": "its block 3 is damaged", "train/5": "EOFError: nothing left"}
    assert r"archive.bin\x1b (its block 3 is damaged)" in as_text(found)


def test_check_names_folders_that_cannot_be_used(tmp_path, capsys):
    root = folder(tmp_path / "pictures")
    (root / "train/cat/bad.png").unlink()
    (root / "val/dog/leak.png").unlink()
    (root / "train/loop").symlink_to("loop")
    code, found = report(capsys, "check", "image_folder", "--data.root", str(root))
    assert code == 1 and found["bad"] == {str(root / "train/loop"): "too many levels of symbolic links"}


def test_names_of_any_bytes_are_shown_escaped(tmp_path, capsys):
    root = tmp_path / "pictures"
    for number, name in enumerate((b"caf\xe9", b"th\xe9\n", b"$x_{")):
        for place in range(8):
            write(tmp_path, f"pictures/{os.fsdecode(name)}/{place}.png", 8 * number + place)
    (root / os.fsdecode(b"caf\xe9") / os.fsdecode(b"bad\xff.png")).write_bytes(b"")
    for action in (
        ["check"],
        ["stats", "--out", str(tmp_path / "s.png")],
        ["preview", "--out", str(tmp_path / "p.png")],
    ):
        given = ["--data.root", str(root), "--data.size", "8", "--data.max_bad", "0.1"]
        assert main(["data", *action, "image_folder", *given]) == (action == ["check"])
        output = capsys.readouterr().out
        output.encode("utf-8")
        if action[0] != "preview":
            assert r"caf\xe9" in output and (action[0] == "stats" or r"caf\xe9/bad\xff.png (it is" in output)
    assert (tmp_path / "s.png").exists() and (tmp_path / "p.png").exists()


def test_preview_says_what_another_image_stands_in_for(tmp_path, capsys, monkeypatch):
    from aigc_lightning.data.folders import files

    monkeypatch.setattr(files, "CHECKED_FILES", 0)
    root = folder(tmp_path / "pictures")
    given = ["--data.root", str(root), "--data.size", "8", "--data.max_bad", "0.1", "--out", str(tmp_path / "p.png")]
    assert main(["data", "preview", "image_folder", *given]) == 0
    assert "Unreadable images were replaced by others: train/cat/bad.png" in capsys.readouterr().err


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
    from aigc_lightning.data.sets.digits import Digits

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


def strange(root, monkeypatch):
    """Write a folder of five pictures among files that cannot be read without a package, and odd ones."""
    for number in range(5):
        write(root, f"{number}.png", number)
    for number in range(7):
        (root / f"{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (root / "notes.txt").write_text("words")
    Image.new("RGB", (60, 48), "red").save(root / "odd.jpg", exif=BROKEN_EXIF)
    monkeypatch.setattr(find_images, "SUFFIXES", (".png", ".jpg"))
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    return root


def test_check_counts_what_is_passed_over_and_names_what_is_odd(tmp_path, capsys, monkeypatch):
    root = str(strange(tmp_path, monkeypatch))
    code, found = report(capsys, "check", "image_folder", "--data.root", root)
    assert code == 0 and found["passed_over"] == {".heic": 7, ".txt": 1} and not found["bad"]
    ((name, remarks),) = found["odd"].items()
    assert name.endswith("/odd.jpg") and remarks.startswith("Corrupt EXIF data")
    main(["data", "check", "image_folder", "--data.root", root])
    out, err = capsys.readouterr()
    assert 'passed   7 .heic (pip install "aigc-lightning[formats]"), 1 .txt\n' in out
    assert "odd      1 is read with a remark:\n" in out
    assert "site-packages" not in out + err and "UserWarning" not in err


def test_a_start_says_what_is_passed_over_in_one_line(tmp_path, caplog, monkeypatch):
    root = str(strange(tmp_path, monkeypatch))
    data = ImageFolder(root, size=16)
    data.train_source()
    lines = [record.getMessage() for record in caplog.records if "Skipped" in record.getMessage()]
    assert lines == [f'Skipped 8 files in {root}: 7 .heic (pip install "aigc-lightning[formats]"), 1 .txt.']


def test_a_folder_of_files_that_take_a_package_says_so(tmp_path, capsys, monkeypatch):
    strange(tmp_path, monkeypatch)
    for path in (*tmp_path.glob("*.png"), tmp_path / "odd.jpg"):
        path.unlink()
    assert main(["data", "check", "image_folder", "--data.root", str(tmp_path)]) == 2
    assert '8 other files, such as 0.HEIC: 7 .heic (pip install "aigc-lightning[formats]")' in capsys.readouterr().err


def test_text_files_that_are_captions_are_not_passed_over(tmp_path, caplog):
    for number in range(4):
        write(tmp_path, f"{number}.png", number)
        (tmp_path / f"{number}.txt").write_text("words")
    data = CaptionedImages(tmp_path, size=16)
    data.train_source()
    assert data.listings()[0].others == {} and "Skipped" not in caplog.text


def test_a_training_process_names_odd_files_and_no_line_of_pillow(tmp_path):
    """Also what C libraries write: the process's own stderr is looked at."""
    strange_files = tmp_path / "files"
    strange_files.mkdir()
    for number in range(8):
        write(strange_files, f"{number}.png", number)
        Image.new("RGB", (60, 48), "red").save(strange_files / f"odd{number}.jpg", exif=BROKEN_EXIF)
        Image.new("L", (64, 64), number).save(strange_files / f"{number}.tif", compression="tiff_lzw")
    for number in range(3, 6):
        content = bytearray((strange_files / f"{number}.tif").read_bytes())
        content[8:20] = b"\xff\x92\x5a\xa5" * 3
        (strange_files / f"{number}.tif").write_bytes(content)
    command = ["data", "preview", "image_folder", "--data.root", str(strange_files), "--data.max_bad", "0.5"]
    done = subprocess.run(
        [sys.executable, "-m", "aigc_lightning", *command, "--out", str(tmp_path / "p.png"), "--data.size", "16"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Left out 3 of 24 images: " in done.stderr and "a broken TIFF: " in done.stderr
    assert sum("Corrupt EXIF data" in line for line in done.stderr.splitlines()) == 5
    assert "There are remarks about more files" in done.stderr
    for noise in ("UserWarning", "site-packages", "tempfile.tif", "Traceback"):
        assert noise not in done.stderr


def test_stats_by_label_counts_all_and_says_whether_the_parts_differ(tmp_path, capsys):
    root = folder(tmp_path / "pictures")
    (root / "train/cat/bad.png").unlink()
    code, found = report(
        capsys, "stats", "image_folder", "--data.root", str(root), "--data.size", "16", "--by", "label"
    )
    by = found["by"]
    assert code == 0 and {name: group["images"] for name, group in by["parts"]["train"].items()} == {
        "cat": 10,
        "dog": 3,
    }
    cat = by["parts"]["train"]["cat"]
    assert cat["share"] == pytest.approx(10 / 13, abs=1e-4) and cat["share_low"] < cat["share"] < cat["share_high"]
    assert 0.3 < cat["brightness"] < 0.7 and cat["brightness_stderr"] > 0
    assert 0.05 < by["p_value_of_equal_shares"] <= 1
    assert main(["data", "stats", "image_folder", f"--data.root={root}", "--data.size=16", "--by", "label"]) == 0
    out = capsys.readouterr().out
    assert "SHARE, 95 % INTERVAL" in out and "If all parts had the same shares" in out


def test_stats_by_caption_counts_the_images_whose_captions_have_a_word(capsys):
    code, found = report(capsys, "stats", "shapes", *SMALL, "--by", "caption")
    parts = found["by"]["parts"]
    assert code == 0 and max(group["share"] for group in parts["train"].values()) == 1  # such as "a"
    assert len(parts["train"]) > 5 and "p_value_of_equal_shares" not in found["by"]
    word = sorted(parts["train"], key=lambda name: parts["train"][name]["images"])[0]
    code, found = report(capsys, "stats", "shapes", *SMALL, "--by", f"caption={word.upper()},unheard")
    assert set(found["by"]["parts"]["train"]) == {word, "unheard"}
    assert found["by"]["parts"]["train"][word] == parts["train"][word]
    assert found["by"]["parts"]["train"]["unheard"]["images"] == 0


@pytest.mark.parametrize(
    ("by", "message"),
    [("colour", "--by is 'colour'"), ("label=cat", "--by is 'label=cat'"), ("caption", "has no captions")],
)
def test_data_is_grouped_by_what_it_has(by, message, capsys):
    assert main(["data", "stats", "digits", "--by", by]) == 2
    assert message in capsys.readouterr().err
