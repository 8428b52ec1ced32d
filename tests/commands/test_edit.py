"""Pictures of any size and kind through a model and back, with what their files hold."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files.icc_writer import DISPLAY_P3, cmyk_profile, rgb_profile
from image_files.table import noise
from image_files.tiff_writer import tiff
from PIL import Image

from aigc_lightning.core.checkpoint import file_hash, save_weights
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.decode import decode
from aigc_lightning.inference.edit_paths import input_files

MODELS = """
import torch
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError


class Negative(ImageModel):
    size_multiple = 8

    def edit(self, images):
        assert images.shape[2] % 8 == 0 and images.shape[3] % 8 == 0, images.shape
        return -images


class Fixed(ImageModel):
    def edit(self, images):
        assert images.shape[2:] == (self.spec.height, self.spec.width), images.shape
        return -images


class Same(Negative):
    size_multiple = 1

    def edit(self, images):
        return images


class Noisy(Same):
    def edit(self, images, seeds=None, direction="AtoB"):
        images = images if direction == "AtoB" else -images
        if seeds is None:
            return images
        noise = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return images / 2 + torch.stack(noise) / 2


class Larger(Same):
    def edit(self, images):
        return images.repeat(1, 1, 2, 2)


class Picky(Same):
    def edit(self, images):
        raise UserError("Only cats.", "Give a cat.")


class Hungry(Same):
    def edit(self, images):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")


class Blind(ImageModel):
    def embed(self, images):
        return images.flatten(1)
"""


@pytest.fixture
def model(site, folder):
    """Return a function that writes an untrained model of a plugin and returns its file."""
    names = ["Negative", "Fixed", "Same", "Noisy", "Larger", "Hungry", "Picky", "Blind"]
    points = {"models": {name.lower(): f"edit_fakes:{name}" for name in names}}
    site.install("aigc-edit-fakes", points, {"edit_fakes.py": MODELS}, marked=False)

    def write(name, channels=3, size=16):
        module = __import__("edit_fakes")
        made = getattr(module, name)(ImageSpec(channels, size, size))
        save_weights(made, folder / f"{name}.safetensors", {})
        return folder / f"{name}.safetensors"

    return write


def picture(height=23, width=37, channels=3, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("name", ["Negative", "Fixed"])
@pytest.mark.parametrize("size", [(23, 37), (16, 16), (1, 1), (5, 70), (64, 48)])
def test_any_size_goes_in_and_comes_out(aigc, model, folder, name, size):
    picture(*size).save("a.png")
    done = aigc("edit", model(name), "a.png", "--out", "o")
    assert done.code == 0, done.err
    assert (pixels("o/a.png") == 255 - pixels("a.png")).all()


def test_large_pictures_are_cut_into_tiles_without_seams(aigc, model, folder):
    picture(150, 333).save("a.png")
    done = aigc("edit", model("Negative"), "a.png", "--out", "o", "--tile", 64)
    assert done.code == 0, done.err
    assert (pixels("o/a.png") == 255 - pixels("a.png")).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture_meets_every_kind_of_model(aigc, model, folder, channels, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    if mode == "I;16":
        Image.fromarray(np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000).save("a.png")
    else:
        picture(6, 10, 4 if mode in ("LA", "RGBA") else 3).convert(mode).save(f"a.{suffix}")
    done = aigc("edit", model("Same", channels), f"a.{suffix}", "--out", "o")
    assert done.code == 0, done.err
    has_alpha = mode in ("LA", "RGBA")
    made = Image.open(f"o/a.{suffix}")
    assert made.size == (10, 6)
    expected = "L" if channels == 1 else "RGB"
    assert made.mode == ("RGBA" if has_alpha or (channels == 4 and suffix == "png") else expected)
    if channels > 1 and suffix == "png":
        assert (decode("a.png", 4) == decode("o/a.png", 4)).all()


def test_transparency_passes_through_and_is_white_to_the_model(aigc, model, folder):
    colours = np.zeros((4, 4, 4), np.uint8)
    colours[:, :, :3] = (200, 100, 50)
    colours[:, :, 3] = [255, 128, 1, 0]
    Image.fromarray(colours).save("a.png")
    assert aigc("edit", model("Negative"), "a.png", "--out", "o").code == 0
    made = pixels("o/a.png")
    assert (made[:, :, 3] == [255, 128, 1, 0]).all()
    assert (made[0, 0, :3] == [55, 155, 205]).all()
    assert (made[0, 3, :3] == [200, 100, 50]).all()  # invisible, so as it was
    # On white the picture looks like the negative of the old one on white, where that can be: not below white's share.
    old = 0.502 * np.array([200, 100, 50]) + 0.498 * 255
    new = 0.502 * made[0, 1, :3] + 0.498 * 255
    assert np.allclose(new, np.maximum(255 - old, 0.498 * 255), atol=1)
    assert aigc("edit", model("Negative"), "a.png", "--out", "w", "--opaque").code == 0
    assert Image.open("w/a.png").mode == "RGB" and (pixels("w/a.png")[0, 3] == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_and_exif_are_kept(aigc, model, folder, suffix, orientation):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "Maker"
    tags.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    # Smooth and asymmetric: a wrong turn is far away, JPEG's loss is not.
    ramp = np.linspace(0, 160, 40)[:, None, None] + np.linspace(0, 80, 24)[None, :, None] * np.array([1, 0.5, 0])
    options = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
    Image.fromarray(ramp.astype(np.uint8)).save(f"a.{suffix}", exif=tags, **options)
    assert aigc("edit", model("Negative"), f"a.{suffix}", "--out", "o").code == 0
    made = next(path for path in (folder / "o").glob("a.*"))
    assert made.name == ("a.jpg" if suffix == "jpg" else "a.png")
    before, after = decode(f"a.{suffix}").int(), decode(made).int()
    assert before.shape == after.shape
    assert (255 - before - after).abs().max() <= (6 if suffix == "jpg" else 0)
    with Image.open(made) as image:
        found = image.getexif()
        assert found[0x010F] == "Maker"
        if suffix != "tif":
            assert found[0x0112] == orientation and found.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"


def test_a_profile_is_kept_where_it_fits_the_colours(aigc, model, folder):
    """The model sees sRGB, and the result has the profile of the original, with its numbers."""
    profile = rgb_profile(DISPLAY_P3, 2.2)
    shades = (noise(8, 8, 3) // 4 + 96).astype(np.uint8)  # sRGB has all of these colours, too
    muted = Image.fromarray(shades).resize((64, 64), Image.Resampling.NEAREST)
    muted.save("a.png", icc_profile=profile)
    muted.save("a.jpg", icc_profile=profile, quality=100, subsampling=0)
    for channels, kept in ((3, profile), (1, None)):
        assert aigc("edit", model("Same", channels), "a.png", "a.jpg", "--out", f"o{channels}").code == 0
        for name in ("a.png", "a.jpg"):
            with Image.open(f"o{channels}/{name}") as made:
                assert made.info.get("icc_profile") == kept
                if kept:
                    assert np.abs(np.asarray(made, int) - np.asarray(Image.open(name), int)).max() <= 6
    assert not np.array_equal(decode("a.png"), decode("a.png", profile="keep"))


def test_operations_alone_leave_the_colours_of_a_profile(aigc, folder):
    """Those that sRGB does not have as well."""
    vivid = Image.fromarray(noise(16, 16, 3).astype(np.uint8))
    vivid.save("a.png", icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    assert aigc("edit", "--ops", "flip=h", "a.png", "--out", "o").code == 0
    with Image.open("o/a.png") as made:
        assert np.array_equal(np.asarray(made), np.asarray(vivid)[:, ::-1])
        assert made.info["icc_profile"] == rgb_profile(DISPLAY_P3, 2.2)


def test_a_profile_of_inks_becomes_srgb(aigc, folder):
    corners = np.linspace([100, 0, 0], [0, 0, 0], 16)
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save("a.tif", icc_profile=cmyk_profile(corners))
    assert aigc("edit", "--ops", "flip=h", "a.tif", "--out", "o").code == 0
    with Image.open("o/a.png") as made:
        assert made.mode == "RGB" and "icc_profile" not in made.info
        assert np.abs(np.asarray(made, int) - decode("a.tif").permute(1, 2, 0).numpy()).max() == 0


def test_a_broken_profile_is_left_out_with_a_word(aigc, model, folder, caplog):
    picture().save("a.png", icc_profile=b"\0" * 16 + b"RGB " + b"\0" * 108)
    assert aigc("edit", model("Same"), "a.png", "--out", "o").code == 0
    assert "a.png: its colour profile is broken" in caplog.text
    assert "icc_profile" not in Image.open("o/a.png").info


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("big", [False, True])
def test_deep_files_are_edited_with_their_tags(aigc, folder, bits, big):
    samples = noise(16, 16, 3, 2**bits)
    tags = {271: ("A", b"Maker\0"), 274: ("H", [6])}
    Path("a.tif").write_bytes(tiff(samples, bits, photometric=2, tags=tags, big=big))
    assert aigc("edit", "--ops", "brightness=1", "a.tif", "--out", "o").code == 0
    with Image.open("o/a.png") as made:
        assert made.getexif()[271] == "Maker" and not {274, 34665} & {*made.getexif()}
        assert np.array_equal(np.asarray(made), decode("a.tif").permute(1, 2, 0))


def test_a_result_says_that_it_was_edited_and_by_what(aigc, model, folder):
    picture().save("a.png")
    picture().save("b.jpg")
    path = model("Same")
    assert aigc("edit", path, "a.png", "b.jpg", "--out", "o", "--after", "flip=h").code == 0
    text = Image.open("o/a.png").info
    assert "edited" in text["Description"] and "edit_fakes.Same" in text["Description"]
    expected = {"generated": False, "edited": True, "model": "edit_fakes.Same", "checkpoint": path.name}
    expected |= {"sha256": file_hash(path), "operations": "flip=h"}
    assert json.loads(text["aigc"]) == expected
    assert json.loads(Image.open("o/b.jpg").info["comment"].decode().splitlines()[-1]) == expected


def test_operations_come_before_and_after_the_model_and_work_without_one(aigc, model, folder):
    picture(8, 8).save("a.png")
    options = ["--before", "crop=4x2", "--after", "rotate=90,brightness=0.5"]
    assert aigc("edit", model("Negative"), "a.png", *options, "--out", "o").code == 0
    cut = pixels("a.png")[3:5, 2:6]
    expected = np.rot90(255 - cut, -1) // 2
    assert (abs(pixels("o/a.png") - expected) <= 1).all()
    assert aigc("edit", "--ops", "crop=4x2,rotate=90", "a.png", "--out", "p").code == 0
    assert (pixels("p/a.png") == np.rot90(cut, -1)).all()
    assert "model" not in json.loads(Image.open("p/a.png").info["aigc"])


def test_variants_and_directions(aigc, model, folder):
    for number in range(2):
        picture(seed=number).save(f"{number}.png")
    path = model("Noisy")
    options = {"plain": (), "back": ("--direction", "BtoA"), "one": ("--seed", 1), "two": ("--seed", 2)}
    more: tuple[object, ...]
    for out, more in options.items():
        assert aigc("edit", path, "0.png", "1.png", "--out", out, *more).code == 0
    assert aigc("edit", path, "1.png", "--out", "alone", "--seed", 2).code == 0
    assert (pixels("plain/1.png") == pixels("1.png")).all()
    assert (pixels("back/1.png") == 255 - pixels("1.png")).all()
    assert (pixels("one/1.png") != pixels("two/1.png")).any()
    assert (folder / "alone/1.png").read_bytes() == (folder / "two/1.png").read_bytes()
    assert json.loads(Image.open("two/1.png").info["aigc"])["seed"] == 2
    assert json.loads(Image.open("back/1.png").info["aigc"])["direction"] == "BtoA"


def test_damaged_files_are_named_and_skipped(aigc, model, folder):
    picture().save("a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "c.jpg").write_text("no image")
    picture(3, 3).save("d.png")
    done = aigc("edit", model("Same"), "a.png", "b.png", "c.jpg", "d.png", "--before", "crop=4x4", "--out", "o")
    assert done.code == 1
    for name, reason in {"b.png": "cannot be read", "c.jpg": "cannot be read", "d.png": "3x3"}.items():
        assert re.search(rf"Skipped: {name}.*{reason}", done.err), done.err
    assert "3 pictures of 4 skipped" in done.err and "1 picture in o: a.png" in done.out
    assert sorted(path.name for path in (folder / "o").iterdir()) == ["a.png", "before_after.png", "compare.html"]
    alone = aigc("edit", model("Same"), "c.jpg", "--out", "p")
    assert alone.code == 1 and alone.out == "" and not (folder / "p").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_what_cannot_be_read_or_written_is_skipped_and_all_others_are_done(aigc, folder):
    long = "x" * 251 + ".png"  # as long as a name may be
    odd = os.fsdecode(b"caf\xe9.png")
    for name in ("a.png", long, odd, "taken.png", "z.png"):
        (folder / "in").mkdir(exist_ok=True)
        picture().save(folder / "in" / name)
    Image.new("L", (66_000, 1)).save(folder / "in" / "wide.png")
    (folder / "in" / "wide.png").rename(folder / "in" / "wide.jpg")
    for name, target in (("self.png", "self.png"), ("gone.png", "nowhere"), ("loop", "loop")):
        (folder / "in" / name).symlink_to(target)
    picture().save(folder / "nameless", "PNG")
    (folder / "nameless").rename(folder / ("n" * 255))
    (folder / "o" / "taken.png").mkdir(parents=True)
    done = aigc("edit", "--ops", "flip=h", "in", "n" * 255, "in/gone.png", "--out", "o")
    assert done.code == 1
    skipped = {"gone.png": "no such file", "self.png": "too many levels", "taken.png": "is a directory"}
    skipped |= {"wide.jpg": "wide.jpg cannot be written", "n" * 255: "file name too long"}
    for name, reason in skipped.items():
        assert re.search(rf"Skipped: (\w+/)?{name}.*{reason}", done.err), (name, done.err)
    assert "5 pictures of 9 skipped" in done.err and r"4 pictures in o: a.png to z.png" in done.out
    for name in ("a.png", long, odd, "z.png"):
        assert (pixels(folder / "o" / name) == pixels(folder / "in" / name)[:, ::-1]).all()
    assert r"<figcaption>caf\xe9.png" in (folder / "o/compare.html").read_text(encoding="utf-8")


def test_a_folder_is_walked_as_by_image_folder(aigc, folder):
    for name in ("in/a.png", "in/._a.png", "in/@eaDir/t.png", "in/#recycle/t.png", "in/.hidden/t.png", "else/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(folder / name)
    (folder / "in/linked").symlink_to(folder / "else")
    (folder / "in/linked/up").symlink_to(folder / "in")
    assert [name.as_posix() for _, name in input_files(["in"], folder / "o")] == ["a.png", "linked/b.png"]


def test_a_file_that_vanishes_is_skipped(aigc, folder, monkeypatch):
    from aigc_lightning.inference import edit
    from aigc_lightning.inference.picture_file import read_picture

    for name in ("a.png", "b.png", "c.png"):
        picture().save(name)

    def vanishing(path, **options):
        (folder / "b.png").unlink(missing_ok=True)
        return read_picture(path, **options)

    monkeypatch.setattr(edit, "read_picture", vanishing)
    done = aigc("edit", "--ops", "flip=h", "a.png", "b.png", "c.png", "--out", "o")
    assert done.code == 1 and "Skipped: b.png" in done.err and "2 pictures in o: a.png to c.png" in done.out


def test_no_new_folder_stays_if_all_is_skipped(aigc, folder):
    (folder / "a.png").write_bytes(b"no picture")
    (folder / "there").mkdir()
    for out in ("new", "there"):
        done = aigc("edit", "--ops", "flip=h", "a.png", "--out", out)
        assert done.code == 1 and "1 picture of 1 skipped" in done.err
    assert not (folder / "new").exists() and (folder / "there").is_dir()


def test_a_sheet_that_cannot_be_written_is_named(aigc, folder):
    picture().save("a.png")
    (folder / "o/before_after.png").mkdir(parents=True)
    done = aigc("edit", "--ops", "flip=h", "a.png", "--out", "o")
    assert done.code == 1 and "before_after.png cannot be written: is a directory" in done.err
    assert "Before and after: o/compare.html" in done.out and (folder / "o/a.png").is_file()


def test_folders_and_patterns_keep_apart_what_has_one_name(aigc, model, folder):
    (folder / "in/sub").mkdir(parents=True)
    for number, name in enumerate(("in/a.png", "in/sub/a.png", "in/a.bmp", "in/.hidden.png", "in/b.JPG")):
        picture(seed=number).save(name)
    (folder / "in/notes.txt").write_text("")
    done = aigc("edit", model("Same"), "in", "--out", "o", "in/s*/a.png")
    assert done.code == 0, done.err
    made = sorted(path.relative_to(folder / "o").as_posix() for path in (folder / "o").rglob("*"))
    assert made == ["a-2.png", "a.png", "b.JPG", "before_after.png", "compare.html", "sub", "sub/a.png"]
    assert (pixels("o/a-2.png") == pixels("in/a.png")).all() and (pixels("o/a.png") == pixels("in/a.bmp")).all()


def test_inputs_are_never_overwritten(aigc, model, folder):
    (folder / "in").mkdir()
    picture().save("in/a.png")
    old = (folder / "in/a.png").read_bytes()
    (folder / "link").symlink_to("in")
    for images, out in (("in", "in"), ("in/a.png", "in"), ("in/*.png", "in"), ("in", "link"), ("in", "in/../in")):
        done = aigc("edit", model("Negative"), images, "--out", out)
        assert done.code == 2 and "overwrite" in done.err and "a.png" in done.err
    assert (folder / "in/a.png").read_bytes() == old
    picture().save("compare.html", format="PNG")
    done = aigc("edit", model("Negative"), "compare.html", "--out", ".")
    assert done.code == 2 and "overwrite compare.html" in done.err


def test_results_inside_of_the_folder_are_not_taken_for_pictures(aigc, model, folder):
    picture().save("a.png")
    path = model("Negative")
    for images in (".", "**/*.png", folder):
        for _ in range(2):
            assert aigc("edit", path, images, "--out", "o").code == 0
        assert sorted(path.name for path in (folder / "o").iterdir()) == ["a.png", "before_after.png", "compare.html"]


def test_the_sheet_and_the_page_show_both(aigc, model, folder):
    Image.new("RGB", (300, 200), (200, 0, 0)).save("a&b.png")
    Image.new("RGB", (20, 10), (0, 0, 90)).save("small.png")
    assert aigc("edit", model("Negative"), "a&b.png", "small.png", "--out", "o").code == 0
    sheet = pixels("o/before_after.png")
    assert sheet.shape == (28 + 200 + 8 + 130 + 8, 2 * 300 + 24, 3)
    assert (sheet[100, 100] == [200, 0, 0]).all() and (sheet[100, 408] == [55, 255, 255]).all()
    assert (sheet[300, 100] == [0, 0, 90]).all() and (sheet[300, 408] == [255, 255, 165]).all()
    page = (folder / "o/compare.html").read_text(encoding="utf-8")
    assert page.count('<input type="range"') == 2 and page.count("<img") == 4
    assert "a&amp;b.png" in page and "a&b.png" not in page and "edit_fakes.Negative" in page
    assert set(re.findall(r'src="([^,]*),', page)) == {"data:image/png;base64", "data:image/jpeg;base64"}
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert aigc("edit", "--ops", "rotate=90", "a&b.png", "--out", "p").code == 0
    page = (folder / "p/compare.html").read_text(encoding="utf-8")
    assert "range" not in page and "300 x 200 to 200 x 300" in page


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["No model and no pictures", "--help"]),
        (["MODEL"], ["No pictures"]),
        (["--ops", "flip=h"], ["No pictures"]),
        (["a.png", "b.png"], ["a.png stands where a run", "--ops"]),
        (["MODEL", "none.png"], ["no file or folder none.png"]),
        (["MODEL", "*.gif"], ["No file matches *.gif"]),
        (["MODEL", "empty"], ["empty holds no images"]),
        (["MODEL", "http://a.b/c.png"], ["address"]),
        (["none", "a.png"], ["no run or checkpoint at none"]),
        (["--ops", "flip=h", "MODEL", "a.png"], ["--ops works without a model", "--before"]),
        (["--ops", "flip=h", "--after", "flip=h", "a.png"], ["--ops works without a model"]),
        (["--ops", "rotatte=90", "a.png"], ["'rotatte'", "mean rotate"]),
        (["--ops", "", "a.png"], ["no operation ''"]),
        (["MODEL", "a.png", "--before", "crop=5"], ["'crop=5'", "crop=WIDTHxHEIGHT"]),
        (["MODEL", "a.png", "--tile", "5"], ["--tile is 5"]),
        (["MODEL", "a.png", "--seed", "-1"], ["--seed is -1"]),
        (["MODEL", "a.png", "--seed", "1"], ["Same does not take --seed", "no other options"]),
        (["MODEL", "a.png", "--direction", "BtoA"], ["Same does not take --direction"]),
        (["MODEL", "a.png", "--direction", "back"], ["--direction", "AtoB"]),
        (["--ops", "flip=h", "a.png", "--seed", "1"], ["--seed is for models"]),
        (["MODEL", "a.png", "--device", "nothing"], ["'nothing'", "--device"]),
        (["MODEL", "a.png", "--out", "a.png"], ["a.png cannot be written", "--out"]),
        (["MODEL", "a.png", "--ot", "b"], ["--ot", "--out"]),
        (["BLIND", "a.png"], ["Blind", "does not edit"]),
    ],
)
def test_mistakes(aigc, model, folder, arguments, parts):
    picture().save("a.png")
    (folder / "empty").mkdir()
    models = {"MODEL": "Same", "BLIND": "Blind"}
    written = [model(models[argument]).name if argument in models else argument for argument in arguments]
    done = aigc("edit", *written)
    assert done.code == 2 and len(done.lines) <= 4
    assert all(part in done.err for part in parts), done.err
    assert not (folder / "edited").exists()


@pytest.mark.parametrize(
    ("name", "parts"),
    [("Larger", ["changes the size", "46"]), ("Hungry", ["memory", "--tile"]), ("Picky", ["Only cats. Give a cat."])],
)
def test_what_a_model_cannot_do_is_said_for_each_picture(aigc, model, folder, name, parts):
    picture().save("a.png")
    done = aigc("edit", model(name), "a.png")
    assert done.code == 1 and "Skipped: a.png" in done.err and all(part in done.err for part in parts), done.err


def test_a_file_whose_name_looks_like_a_pattern(folder):
    picture().save("a[1].png")
    assert [path.name for path, _ in input_files(["a[1].png"], folder / "o")] == ["a[1].png"]


def test_an_editor_without_training_edits_by_its_name(aigc, site, folder):
    source = """
from aigc_lightning import ImageSpec

class Repeat:
    '''Repeats pixels.'''

    spec, size_multiple = ImageSpec(3, 8, 8), 1

    def __init__(self, device):
        self.device = device

    def edit(self, images, *, scale: int = 2):
        return images.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
"""
    site.install("aigc-repeat", {"editors": {"repeat": "repeat_fake:Repeat"}}, {"repeat_fake.py": source}, marked=False)
    picture(9, 7).save("a.png")
    for options, scale in (((), 2), (("--scale", 3), 3)):
        done = aigc("edit", "repeat", "a.png", "--out", f"o{scale}", *options)
        assert done.code == 0, done.err
        assert (pixels(f"o{scale}/a.png") == pixels("a.png").repeat(scale, 0).repeat(scale, 1)).all()
        assert Image.open(f"o{scale}/a.png").info["Description"] == "Image edited by the method repeat"
    done = aigc("edit", "repeat", "a.png", "--strength", 3, "--out", "o")
    assert done.code == 2 and "--scale" in done.err
    listed = aigc("plugins", "show", "repeat")
    assert "Repeats pixels." in listed.out


def test_an_operation_of_a_package_gets_the_result_and_what_the_model_saw(aigc, site, folder):
    source = """
from PIL import ImageChops
from aigc_lightning import ImageSpec, UserError

class Half:
    '''Halves the light.'''

    spec, size_multiple = ImageSpec(3, 8, 8), 1

    def __init__(self, device):
        self.device = device

    def edit(self, images):
        return (images + 1) / 2 - 1

def difference(value):
    '''Show what the model changed.'''
    if value not in ("", "inverted"):
        raise UserError(f"difference={value} is unknown.", "Write difference=inverted.")
    def apply(result, original):
        found = ImageChops.difference(result, original)
        return ImageChops.invert(found) if value else found
    return apply
"""
    points = {"editors": {"half": "half_fake:Half"}, "operations": {"difference": "half_fake:difference"}}
    site.install("aigc-half", points, {"half_fake.py": source}, marked=False)
    picture(9, 8).save("a.png")
    done = aigc("edit", "half", "a.png", "--before", "flip=h", "--after", "Difference=inverted,flip=h")
    assert done.code == 0, done.err
    expected = 255 - pixels("a.png") / 2
    assert abs(pixels("edited/a.png") - expected).max() <= 0.5
    assert "Difference=inverted,flip=h" in Image.open("edited/a.png").info["Description"]
    for options, message in (
        (("half", "--after", "difference=x"), "difference=x is unknown"),
        (("half", "--after", "differences"), "Did you mean difference?"),
        (("--ops", "difference"), "works on what a model returns"),
    ):
        done = aigc("edit", *options, "a.png", "--out", "o")
        assert done.code == 2 and message in done.err
    assert "Show what the model changed." in aigc("plugins", "list", "operation").out
