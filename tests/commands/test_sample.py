"""Pictures from seeds: the same bytes whatever else is asked for."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.core.checkpoint import file_hash, load_model
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.inference import loaded_model


def pictures(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def test_a_seed_gives_the_same_bytes_in_any_company(aigc, trained, folder):
    for name, seeds in {"a": "0-15", "b": "7", "c": "9,7,3,100000-100002", "d": "7-8"}.items():
        done = aigc("sample", trained, "--seeds", seeds, "--out", name)
        assert done.code == 0, done.err
    made = {name: pictures(folder / name) for name in "abcd"}
    assert len(made["a"]) == 16 and len(made["c"]) == 6
    assert len({made[name]["000007.png"] for name in "abcd"}) == 1
    assert len({*made["a"].values(), *made["c"].values()}) == 19  # seeds 3, 7 and 9 are in both


def test_pictures_come_from_the_averaged_weights(aigc, trained, folder):
    aigc("sample", trained, "--seeds", "0-3", "--out", "a")
    model: Any = load_model(trained)
    averaged = to_uint8(model.sample([3]))[0, 0].numpy()
    model.averages = torch.nn.ModuleDict()
    trained_weights = to_uint8(model.sample([3]))[0, 0].numpy()
    made = np.asarray(Image.open(folder / "a" / "000003.png"))
    assert (made == averaged).all() and (made != trained_weights).any()


def test_a_picture_says_that_it_is_generated_and_by_what(aigc, trained, folder):
    aigc("sample", trained, "--seeds", "5,6", "--out", "a", "--grid")
    checkpoint = trained / "checkpoints" / "last.ckpt"
    text = Image.open(folder / "a" / "000005.png").info
    assert "generated" in text["Description"].lower() and "seed 5" in text["Description"]
    assert json.loads(text["aigc"]) == {
        "generated": True,
        "model": "aigc_lightning.models.dcgan.DCGAN",
        "checkpoint": "last.ckpt",
        "sha256": file_hash(checkpoint),
        "seeds": [5],
    }
    assert json.loads(Image.open(folder / "a" / "grid.png").info["aigc"])["seeds"] == [5, 6]


def test_the_grid_shows_the_pictures_in_the_order_of_the_seeds(aigc, trained, folder):
    done = aigc("sample", trained, "--seeds", "8,2,5", "--out", "a", "--grid")
    assert "3 pictures in a" in done.out and "a/grid.png" in done.out
    grid = np.asarray(Image.open(folder / "a" / "grid.png"))
    for number, seed in enumerate([8, 2, 5]):  # 8x8 pictures are shown eightfold, two in a row, two pixels between
        top, left = 66 * (number // 2), 66 * (number % 2)
        cell = grid[top : top + 64 : 8, left : left + 64 : 8]
        assert (cell == np.asarray(Image.open(folder / "a" / f"00000{seed}.png"))).all()


def test_a_run_folder_its_checkpoint_and_its_export_give_the_same_pictures(aigc, trained, folder):
    assert aigc("export", trained, "--out", "made/model").code == 0
    sources = [trained, trained / "checkpoints" / "last.ckpt", "made/model.safetensors"]
    for number, source in enumerate(sources):
        assert aigc("sample", source, "--seeds", "0-3", "--out", f"{number}").code == 0
    pixels = [
        [np.asarray(Image.open(path)).tolist() for path in sorted((folder / f"{n}").glob("*.png"))] for n in range(3)
    ]
    assert pixels[0] == pixels[1] == pixels[2]
    assert pictures(folder / "0") == pictures(folder / "1")


def test_samples_do_not_depend_on_the_state_of_the_process(aigc, trained, folder):
    aigc("sample", trained, "--seeds", "1", "--out", "a")
    torch.manual_seed(77)
    torch.rand(5)
    aigc("sample", trained, "--seeds", "1", "--out", "b")
    assert pictures(folder / "a") == pictures(folder / "b")


def test_a_moved_checkpoint_works_alone(aigc, trained, folder):
    shutil.copy(trained / "checkpoints" / "last.ckpt", folder / "moved.ckpt")
    assert aigc("sample", "moved.ckpt", "--seeds", "3").code == 0
    assert (folder / "samples" / "000003.png").exists()


def test_a_folder_that_cannot_be_written(aigc, trained, folder):
    (folder / "file").write_text("")
    for out in ("file", "file/inside"):
        done = aigc("sample", trained, "--out", out)
        assert done.code == 2 and out in done.err and "--out" in done.err


def test_a_model_that_makes_no_pictures(aigc, trained, monkeypatch):
    nothing = ImageModel(ImageSpec(1, 8, 8))
    monkeypatch.setattr(loaded_model, "load_with_record", lambda path: (nothing, nothing.provenance()))
    done = aigc("sample", trained)
    assert done.code == 2 and "ImageModel" in done.err and "does not make images" in done.err


@pytest.mark.parametrize("size", [1, 3, 16])
def test_pictures_in_a_batch_are_those_made_alone(size, trained):
    model: Any = load_model(trained)
    batch = model.sample(range(size))
    alone = torch.cat([model.sample([seed]) for seed in range(size)])
    torch.testing.assert_close(batch, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "projection", "concatenation"])
def test_classes(kind, aigc, tiny, folder):
    options = [] if kind == "none" else ["--model.conditioning", kind]
    assert aigc("fit", "--config", tiny, "--run", "r", *options).code == 0
    done = aigc("sample", "r", "--seeds", "0-3", "--class", "7", "--out", "sevens")
    if kind == "none":
        assert done.code == 2 and "--class" in done.err
        return
    assert done.code == 0, done.err
    assert json.loads(Image.open(folder / "sevens/000000.png").info["aigc"])["options"] == {"class": "7"}
    aigc("sample", "r", "--seeds", "0-3", "--class", "8", "--out", "eights")
    aigc("sample", "r", "--seeds", "7,17", "--out", "any")
    assert pictures(folder / "sevens") != pictures(folder / "eights")
    aigc("sample", "r", "--seeds", "7,17", "--class", "7", "--out", "same")
    pixels = [
        [np.asarray(Image.open(path)).tolist() for path in sorted((folder / n).glob("*"))] for n in ("any", "same")
    ]
    assert pixels[0] == pixels[1]  # without a class, seed 17 shows class 17 modulo 10
    missing = aigc("sample", "r", "--class", "ten")
    assert missing.code == 2 and "'ten'" in missing.err


def test_what_was_interrupted_goes_on(aigc, trained, folder):
    assert aigc("sample", trained, "--seeds", "0-19", "--out", "whole").code == 0
    assert aigc("sample", trained, "--seeds", "0-4", "--out", "parts").code == 0
    kept = {path: path.stat().st_mtime_ns for path in (folder / "parts").glob("*.png")}
    damaged = folder / "parts" / "000002.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    assert aigc("sample", trained, "--seeds", "0-19", "--out", "parts").code == 0
    assert pictures(folder / "parts") == pictures(folder / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items() if path != damaged)


def test_a_picture_of_something_else_is_replaced(aigc, trained, folder):
    (folder / "out").mkdir()
    Image.new("L", (4, 4)).save(folder / "out" / "000007.png")
    done = aigc("sample", trained, "--seeds", "7", "--out", "out")
    assert done.code == 0 and "1 picture in out: 000007.png\n" in done.out
    assert aigc("sample", trained, "--seeds", "0-15", "--out", "more").code == 0
    assert pictures(folder / "out")["000007.png"] == pictures(folder / "more")["000007.png"]


def test_one_file_has_the_pixels_of_the_pictures(aigc, trained, folder):
    assert aigc("sample", trained, "--seeds", "3,40,7", "--out", "some/samples.npz").code == 0
    assert aigc("sample", trained, "--seeds", "3,7,40", "--out", "pictures").code == 0
    with np.load(folder / "some" / "samples.npz") as found:
        assert set(found) == {"arr_0", "seeds", "record"}
        assert found["seeds"].tolist() == [3, 40, 7]
        record = json.loads(str(found["record"]))
        for seed, pixels in zip(found["seeds"], found["arr_0"], strict=True):
            assert np.array_equal(pixels[..., 0], np.asarray(Image.open(folder / f"pictures/{seed:06d}.png")))
    assert record["generated"] and record["sha256"] == file_hash(trained / "checkpoints" / "last.ckpt")
    assert [path.name for path in (folder / "some").iterdir()] == ["samples.npz"]


def test_one_file_has_no_grid(aigc, trained, folder):
    done = aigc("sample", trained, "--out", "samples.npz", "--grid")
    assert done.code == 2 and "samples.npz is one file" in done.err and not (folder / "samples.npz").exists()


def test_an_error_of_a_writing_thread_ends_the_command(aigc, trained, folder, monkeypatch):
    def fails(picture, path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("aigc_lightning.inference.sample.save_png", fails)
    done = aigc("sample", trained, "--seeds", "0-99")
    assert done.code == 2 and "Make room on that disk" in done.err
