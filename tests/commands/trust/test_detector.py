"""`aigc trust detector` tells generated pictures from real ones, and nothing else from them."""

import json

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.core.checkpoint import read_checkpoint

SIZE = 16


def pictures(folder, count, *, smooth, size=SIZE, first=0):
    """Write noise, or slopes, as PNG."""
    folder.mkdir()
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        slope = np.linspace(random.integers(0, 128, 3), random.integers(128, 256, 3), size * size)
        pixels = slope if smooth else random.uniform(0, 256, (size, size, 3))
        Image.fromarray(pixels.reshape(size, size, 3).astype(np.uint8)).save(folder / f"{number:04d}.png")


@pytest.fixture
def kinds(folder):
    """Return the options that name noise as real, and slopes as generated."""
    pictures(folder / "real", 80, smooth=False)
    pictures(folder / "slopes", 80, smooth=True)
    pictures(folder / "others", 20, smooth=True, first=500)
    pictures(folder / "noise", 20, smooth=False, first=500)
    return ["--real", "real", "--num", "64", "--steps", "32"]


def test_the_detector_finds_generators_and_nothing_in_real_pictures_saved_again(aigc, folder, kinds):
    done = aigc("trust", "detector", *kinds, "--generated", "slopes", "--unseen", "others", "noise", "--out", "found")
    assert done.code == 0, done.err
    (section,) = json.loads((folder / "found" / "detector.json").read_text())["sections"]
    assert section["protocol"] == {"shape": [3, 16, 16], "training": 64, "held_out": 16, "false_alarms": 0.01}
    found = {name: row["auc"] for name, row in section["classes"].items()}
    assert list(found) == ["slopes, seen", "others, unseen", "noise, unseen", "real, resaved"]
    assert found["slopes, seen"] == found["others, unseen"] == 1
    assert 0.2 < found["noise, unseen"] < 0.8 and abs(found["real, resaved"] - 0.5) < 0.25
    assert "slopes  seen      1.000" in done.out and "aigc evaluate found" in done.out

    parts = {path.name: len(list(path.glob("*/*.jpg"))) for path in (folder / "found_pictures").iterdir()}
    assert parts == {"train": 128, "val": 32}
    record = read_checkpoint(folder / "found" / "checkpoints" / "last.ckpt")["aigc"]
    assert record["spec"]["class_names"] == ["generated", "real"]
    scored = aigc("evaluate", "found")
    assert scored.code == 0 and "Accuracy" in scored.out, scored.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--generated", "large"], ["20x20", "16x16", "one size"]),
        (["--generated", "few"], ["few has", "at least 8"]),
        (["--generated", "missing"], ["missing"]),
        (["--generated", "slopes", "--out", "noise"], ["noise exists already"]),
        (["--generated", "slopes", "--num", "3"], ["--num is 3"]),
        (["--generated", "slopes", "--data.size", "8"], ["--data.size"]),
        (["--generated", "slopes", "--real", "nothing"], ["nothing"]),
        (["--generated", "slopes", "--real", "shapes", "--data.task", "paired"], ["paired"]),
        ([], ["--generated"]),
    ],
)
def test_what_cannot_work_is_refused(options, said, aigc, folder, kinds):
    pictures(folder / "large", 80, smooth=True, size=20)
    pictures(folder / "few", 9, smooth=True)
    done = aigc("trust", "detector", *kinds, *options)
    assert done.code == 2 and len(done.lines) <= 4 and all(text in done.err for text in said), done.err
    assert not (folder / "runs").exists()
