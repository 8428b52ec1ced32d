"""Masks, references, prompts, options and scale of models that edit."""

import json

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.core.checkpoint import file_hash


def write(path, height=20, width=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def write_mask(path, height=20, width=30, white=255, black=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width), black, dtype=np.uint8)
    pixels[4:9, 3:17] = white
    Image.fromarray(pixels).save(path)
    return pixels >= 128


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def record(path):
    return json.loads(Image.open(path).info["aigc"])


@pytest.mark.parametrize("tile", [1024, 16])
def test_what_a_mask_leaves_out_stays_as_it_was(aigc, conditional, folder, tile):
    write(folder / "a.png")
    inside = write_mask(folder / "m.png")
    done = aigc("edit", conditional("Filler"), "a.png", "--mask", "m.png", "--tile", tile, "--out", "o")
    assert done.code == 0, done.err
    made, given = pixels("o/a.png"), pixels("a.png")
    assert (made[~inside] == given[~inside]).all() and set(made[inside].flatten()) == {128}
    assert record("o/a.png")["mask"] == {"file": "m.png", "sha256": file_hash(folder / "m.png")}


@pytest.mark.parametrize("color", ["#ff00ff", "transparent"])
def test_pixels_of_a_colour_are_filled_and_become_opaque(aigc, conditional, folder, color):
    inside = write_mask(folder / "m.png")
    given = np.random.default_rng(0).integers(0, 200, (20, 30, 4), dtype=np.uint8)
    given[..., 3] = 255
    given[inside] = (250, 5, 255, 255) if color == "#ff00ff" else (9, 9, 9, 0)
    Image.fromarray(given).save("a.png")
    done = aigc("edit", conditional("Filler"), "a.png", "--mask-from-color", color, "--out", "o")
    assert done.code == 0, done.err
    made = np.asarray(Image.open("o/a.png").convert("RGBA"))
    assert (made[~inside] == given[~inside]).all() and set(made[inside][:, :3].flatten()) == {128}
    assert (made[..., 3] == 255).all() and record("o/a.png")["mask"] == {"color": color}


def test_colours_of_holes_that_do_not_fit_are_refused(aigc, conditional, folder):
    write(folder / "a.png")
    write_mask(folder / "m.png")
    command = ("edit", conditional("Filler"), "a.png", "--out", "o", "--mask-from-color")
    done = aigc(*command, "transparent")
    assert done.code == 1 and "No pixel of a.png is transparent" in done.err
    done = aigc(*command, "rod")
    assert done.code == 2 and "'rod'" in done.err and "#ff00ff" in done.err
    done = aigc(*command, "red", "--mask", "m.png")
    assert done.code == 2 and "both given" in done.err
    done = aigc("edit", "--ops", "rotate=90", "a.png", "--mask-from-color", "red")
    assert done.code == 2 and "--mask-from-color is for models" in done.err


def test_everything_that_a_model_takes_is_given_and_recorded(aigc, conditional, folder):
    write(folder / "a.png")
    inside = write_mask(folder / "m.png")
    Image.new("RGB", (50, 40), (255, 127, 0)).save("r.png")
    model = conditional("Filler")
    common = ("edit", model, "a.png", "--mask", "m.png")
    changes = {
        "plain": [],
        "reference": ["--reference", "r.png"],
        "prompt": ["--prompt", "a red circle"],
        "seed": ["--seed", "3"],
        "strength": ["--strength", "0.5"],
    }
    made = {}
    for name, options in changes.items():
        done = aigc(*common, *options, "--out", name)
        assert done.code == 0, done.err
        made[name] = pixels(f"{name}/a.png")[inside]
    assert all((made[name] != made["plain"]).any() for name in changes if name != "plain")
    assert made["reference"][0].tolist() == [255, 127, 0]
    done = aigc(*common, *(option for options in changes.values() for option in options), "--out", "all")
    found = record("all/a.png")
    assert found["prompt"] == "a red circle" and found["seed"] == 3 and found["options"] == {"strength": 0.5}
    assert found["reference"] == {"file": "r.png", "sha256": file_hash(folder / "r.png")}


def test_several_references_are_for_models_that_mix_them(aigc, conditional, folder):
    write(folder / "a.png")
    write_mask(folder / "m.png")
    write(folder / "r.png", seed=2)
    several = ("--reference", "r.png", "--reference", "a.png")
    done = aigc("edit", conditional("Filler"), "a.png", "--mask", "m.png", *several, "--out", "o")
    assert done.code == 2 and "Filler takes one reference, and 2 are given" in done.err, done.err


def test_the_sheet_shows_masks_and_references(aigc, conditional, folder):
    write(folder / "a.png", 300, 300)
    write_mask(folder / "m.png", 300, 300)
    write(folder / "r.png", seed=2)
    model, widths = conditional("Filler"), []
    for options in ([], ["--reference", "r.png"]):
        assert aigc("edit", model, "a.png", "--mask", "m.png", *options, "--out", "o").code == 0
        widths.append(Image.open("o/before_after.png").width)
    assert widths == [3 * 308 + 8, 4 * 308 + 8]


def test_folders_are_paired_by_name(aigc, conditional, folder):
    for number, name in enumerate(("b.jpg", "sub/a.png", "sub/c.d.png")):
        write(folder / "in" / name, 20, 30 + number)
        write_mask(folder / "masks" / name.replace(".jpg", ".png"), 20, 30 + number)
    write_mask(folder / "masks/unused.png")
    done = aigc("edit", conditional("Filler"), "in", "--mask", "masks", "--out", "o")
    assert done.code == 0, done.err
    assert record("o/sub/a.png")["mask"]["file"] == "masks/sub/a.png"
    (folder / "masks/b.png").unlink()
    (folder / "masks/sub/c.d.png").unlink()
    done = aigc("edit", conditional("Filler"), "in", "--mask", "masks", "--out", "p")
    assert done.code == 2 and "masks has no mask for in/b.jpg, in/sub/c.d.png" in done.err, done.err
    write_mask(folder / "masks/b.png")
    write_mask(folder / "masks/b.webp")
    done = aigc("edit", conditional("Filler"), "in/b.jpg", "--mask", "masks", "--out", "p")
    assert done.code == 2 and "b.png and b.webp" in done.err, done.err
    assert not (folder / "p").exists()


def test_results_never_overwrite_masks(aigc, conditional, folder):
    write(folder / "in/a.png")
    write_mask(folder / "masks/a.png")
    before = (folder / "masks/a.png").read_bytes()
    done = aigc("edit", conditional("Filler"), "in/a.png", "--mask", "masks", "--out", "masks")
    assert done.code == 2 and "would overwrite" in done.err and (folder / "masks/a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image.new("L", (31, 20), 255).save("m.png"), ["m.png has 31x20 pixels and its picture 30x20"]),
        (lambda: Image.new("RGB", (30, 20), "red").save("m.png"), ["m.png is coloured"]),
        (lambda: Image.new("RGBA", (30, 20), (255, 255, 255, 0)).save("m.png"), ["m.png is transparent"]),
        (lambda: Image.new("L", (30, 20), 1).save("m.png"), ["no white pixel"]),
        (lambda: open("m.png", "w").close(), ["m.png", "cannot be read"]),
    ],
    ids=["size", "colour", "alpha", "empty", "damaged"],
)
def test_masks_that_do_not_fit_are_named(aigc, conditional, folder, make, words):
    write(folder / "a.png")
    make()
    done = aigc("edit", conditional("Filler"), "a.png", "--mask", "m.png", "--out", "o")
    assert done.code == 1 and "Skipped: a.png" in done.err and all(word in done.err for word in words), done.err


def test_a_grey_mask_is_cut_at_128_with_a_word(aigc, conditional, folder, caplog):
    write(folder / "a.png")
    inside = write_mask(folder / "m.png", white=128, black=127)
    done = aigc("edit", conditional("Filler"), "a.png", "--mask", "m.png", "--out", "o")
    assert done.code == 0 and "neither black nor white" in caplog.text + done.err
    made = pixels("o/a.png")
    assert (made[~inside] == pixels("a.png")[~inside]).all() and set(made[inside].flatten()) == {128}


def test_masks_of_any_kind_of_file_are_read(aigc, conditional, folder):
    write(folder / "a.png")
    inside = write_mask(folder / "m.png")
    mask = Image.open("m.png")
    for name, mode in {"one.png": "1", "rgb.png": "RGB", "palette.gif": "P", "grey.tif": "L"}.items():
        mask.convert(mode).save(name)
        done = aigc("edit", conditional("Filler"), "a.png", "--mask", name, "--out", "o")
        assert done.code == 0, done.err
        assert (pixels("o/a.png")[inside] == 128).all(), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FILLER", "a.png"], ["Filler needs --mask"]),
        (["FILLER", "a.png", "--mask", "none.png"], ["no file or folder none.png", "--mask"]),
        (["FILLER", "a.png", "--mask", "m.png", "--prompt", ""], ["--prompt is empty"]),
        (["FILLER", "a.png", "--mask", "m.png", "--direction", "BtoA"], ["does not take --direction", "--reference"]),
        (["FILLER", "a.png", "--mask", "m.png", "--strenght", "1"], ["'--strenght'", "--strength"]),
        (["FILLER", "a.png", "--mask", "m.png", "--strength", "x"], ["--strength is 'x'"]),
        (["FILLER", "a.png", "--mask", "m.png", "--before", "crop=8x8"], ["crop=8x8 would change", "--ops"]),
        (["DOUBLER", "a.png", "--mask", "m.png"], ["Doubler does not take --mask", "no other options"]),
        (["--ops", "flip=h", "a.png", "--mask", "m.png"], ["--mask is for models"]),
        (["--ops", "flip=h", "a.png", "--steps", "3"], ["'--steps'", "--ops"]),
    ],
)  # fmt: skip
def test_mistakes(aigc, conditional, folder, arguments, words):
    write(folder / "a.png")
    write_mask(folder / "m.png")
    models = {"FILLER": "Filler", "DOUBLER": "Doubler"}
    done = aigc("edit", *(conditional(models[word]) if word in models else word for word in arguments), "--out", "o")
    assert done.code == 2 and len(done.lines) <= 4 and all(word in done.err for word in words), done.err


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("tile", [1024, 16])
def test_a_model_with_a_scale_returns_larger_pictures(aigc, conditional, folder, mode, tile):
    write(folder / "a.png", 37, 50)
    given = Image.open("a.png").convert(mode)
    given.save("a.png")
    done = aigc("edit", conditional("Doubler"), "a.png", "--tile", tile, "--out", "o")
    assert done.code == 0, done.err
    assert ("depends on 10 pixels in each direction, so that tiles of 16 pixels" in done.err) == (tile == 16), done.err
    made = pixels("o/a.png")
    assert (made[..., :3] == np.asarray(given)[..., :3].repeat(2, 0).repeat(2, 1)).all()
