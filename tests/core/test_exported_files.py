"""What the Python files beside exported programs have in common."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from aigc_lightning.core.exported_files import (
    asked,
    hole_shares,
    opened,
    opened_beside,
    option_parser,
    pooled,
    read_picture,
    write_png,
)

SETTINGS = {"edits": "holes", "image_shape": [1, 4, 5], "num_classes": 0, "text_length": 8, "has_guidance": True}


@pytest.fixture
def of_line(monkeypatch):
    """Parses a command line for a model with settings."""

    def parsed(*words, **settings):
        given = {**SETTINGS, **settings}
        parser = option_parser(given)
        parser.add_argument("--strength", type=float, default=0.0)
        monkeypatch.setattr("sys.argv", ["model_sample.py", *map(str, words)])
        return asked(parser, given)

    return parsed


def picture(path, mode="L", size=(5, 4), color=0):
    Image.new(mode, size, color).save(path)
    return path


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_pictures_are_read_as_they_were_written(tmp_path, channels, mode):
    image = np.random.default_rng(0).uniform(-1, 1, (channels, 5, 4)).astype(np.float32)
    write_png(tmp_path / "a.png", image)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert Image.open(tmp_path / "a.png").mode == mode
    read = read_picture(tmp_path / "a.png", image.shape)
    assert read.dtype == np.float32 and np.abs(read - image).max() < 0.005
    write_png(tmp_path / "b.png", read)  # byte for byte
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), pixels)
    np.save(tmp_path / "a.npy", pixels)
    assert np.array_equal(read_picture(tmp_path / "a.npy", image.shape), read)


def test_pictures_are_seen_in_the_models_colours_on_white(tmp_path):
    path = picture(tmp_path / "a.png", "RGBA", color=(255, 0, 0, 0))
    assert (read_picture(path, (3, 4, 5)) == 1).all() and (read_picture(path, (1, 4, 5)) == 1).all()
    assert read_picture(picture(tmp_path / "b.png", "RGB", color=(255, 0, 0)), (1, 4, 5)).max() < 0


@pytest.mark.parametrize("grid", [(7, 9), (3, 4), (2, 2), (1, 1)])
def test_cells_with_holes_are_those_of_pytorch(grid):
    holes = np.random.default_rng(0).random((3, 1, 7, 9)) < 0.1
    expected = adaptive_max_pool2d(torch.from_numpy(holes).float(), grid).numpy() > 0
    assert np.array_equal(pooled(holes, grid), expected) and expected.any()
    shares = adaptive_avg_pool2d(torch.from_numpy(holes).float(), grid).numpy()
    assert np.abs(hole_shares(holes, grid) - shares).max() < 1e-6


def test_what_is_no_such_picture_is_refused(tmp_path):
    for array in (np.zeros((4, 5), np.float32), np.zeros((5, 4), np.uint8)):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match="takes 4x5x1 of uint8"):
            read_picture(tmp_path / "a.npy", (1, 4, 5))
        with pytest.raises(ValueError, match=r"takes (4x5|5x4)x3 of uint8"):  # of any size
            read_picture(tmp_path / "a.npy", [3])
    assert read_picture(picture(tmp_path / "c.png", size=(5, 6)), [3]).shape == (3, 6, 5)
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_picture(picture(tmp_path / "a.png", "I;16"), (1, 4, 5))
    with pytest.raises(ValueError, match="6x5x1"):
        read_picture(picture(tmp_path / "b.png", size=(5, 6)), (1, 4, 5))


def test_seeds_and_texts(of_line):
    assert of_line() == (["seed_0.png"], {"seeds": [0], "prompts": None, "guidance": 1.0, "strength": 0.0})
    names, options = of_line("--seeds", 3, 4, "--prompts", "a")
    assert names == ["seed_3.png", "seed_4.png"] and options["prompts"] == ["a", "a"]
    assert of_line("--seeds", 3, 4, "--labels", 0, 1, num_classes=2, text_length=0)[1]["labels"] == [0, 1]


def test_pictures_and_a_mask(of_line, tmp_path):
    files = [picture(tmp_path / name) for name in ("a.png", "b.png")]
    hole = Image.new("L", (5, 4), 127)
    hole.putpixel((2, 1), 128)
    hole.save(tmp_path / "hole.png")
    names, options = of_line("--pictures", *files, "--mask", tmp_path / "hole.png", "--seeds", 7)
    assert names == ["a_edited.png", "b_edited.png"] and options["seeds"] == [7, 7]
    assert options["pictures"].shape == (2, 1, 4, 5) and options["masks"].sum() == 2
    assert options["masks"][1, 0, 1, 2] == 1
    assert "masks" not in of_line("--pictures", *files)[1]


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (["--seeds", -1], {}, "seeds are at least 0"),
        (["--labels", 2], {"num_classes": 2}, "has 2 classes"),
        (["--seeds", 1, 2, "--labels", 1], {"num_classes": 2}, "one of the --labels for each image"),
        (["--seeds", 1, 2, 3, "--prompts", "a", "b"], {}, "one of the --prompts for each image"),
        (["--prompts", "a" * 8], {}, "at most 7 bytes"),
        (["--mask", "hole.png"], {}, "--mask acts on --pictures"),
        (["--strength", 0.5], {}, "--strength acts on --pictures"),
        (["--pictures", "a.png", "x/a.png"], {}, "the same name"),
        (["--pictures", "a.png", "--labels", 1], {"num_classes": 2}, "no effect on pictures"),
        (["--pictures", "a.png", "--guidance", 2], {}, "without --prompts"),
        (["--pictures", "missing.png"], {}, "missing.png"),
        ([], {"edits": "pairs"}, "required: --pictures"),
        (["--pictures", "a.png"], {"edits": ""}, "unrecognized arguments"),
    ],
)
def test_what_does_not_act_is_refused(of_line, capsys, tmp_path, monkeypatch, words, settings, message):
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"))
    with pytest.raises(SystemExit, match="2"):
        of_line(*words, **settings)
    assert message in capsys.readouterr().err


def test_a_missing_program_is_named(capsys, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    script = tmp_path / "model_sample.py"
    for needed, name in ((lambda: opened(script), "model"), (lambda: opened_beside(script, "encode"), "model_encode")):
        with pytest.raises(SystemExit, match="2"):
            needed()
        assert f"{name}.onnx is missing" in capsys.readouterr().err
