"""Pictures of what prompts say."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.inference.loaded_model import load


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def record(path):
    return json.loads(Image.open(path).info["aigc"])


def test_a_prompt_is_drawn_with_each_seed_and_recorded(aigc, conditional, folder):
    model = conditional("Painter")
    done = aigc(
        "sample", model, "--seeds", "0-2", "--prompt", "a  red circle", "--noise", "0.2", "--out", "o", "--grid"
    )
    assert done.code == 0, done.err
    assert sorted(path.name for path in (folder / "o").iterdir()) == [*(f"00000{n}.png" for n in range(3)), "grid.png"]
    assert record("o/000001.png")["options"] == {"noise": 0.2, "prompt": "a red circle"}
    assert record("o/grid.png")["options"]["prompt"] == "a red circle"
    expected = to_uint8(load(model).sample([1], prompts=["a red circle"], noise=0.2))[0].permute(1, 2, 0)
    assert torch.equal(torch.from_numpy(pixels("o/000001.png")), expected.long())
    aigc("sample", model, "--seeds", "1", "--prompt", "a blue square", "--out", "p")
    aigc("sample", model, "--seeds", "1", "--out", "q")
    assert (pixels("p/000001.png") != pixels("o/000001.png")).any()
    assert "prompt" not in record("q/000001.png").get("options", {})


def test_several_prompts_are_each_drawn_with_every_seed(aigc, conditional, folder):
    model = conditional("Painter")
    (folder / "texts.txt").write_text("\ufeffa red circle\r\n\n  a blue square\na green\tstar\n", encoding="utf-8")
    done = aigc("sample", model, "--seeds", "3,5", "--prompts", "texts.txt", "--prompt", "one", "--out", "o", "--grid")
    assert done.code == 0 and "8 pictures in o: 1_000003.png to 4_000005.png" in done.out, done.err
    prompts = [record(f"o/{number}_000005.png")["options"]["prompt"] for number in (1, 2, 3, 4)]
    assert prompts == ["one", "a red circle", "a blue square", "a green star"]
    alone = aigc("sample", model, "--seeds", "5", "--prompt", "a blue square", "--out", "p")
    assert alone.code == 0 and (pixels("p/000005.png") == pixels("o/3_000005.png")).all()
    assert record("o/grid.png")["options"]["prompts"] == prompts and record("o/grid.png")["seeds"] == [3, 5]
    grid = Image.open(folder / "o" / "grid.png")
    assert grid.height > 1.9 * grid.width  # a row per prompt, a column per seed


def test_classes_and_prompts_work_together(aigc, conditional, folder):
    model = conditional("Painter", class_names=("a", "b"))
    for name in ("a", "b"):
        done = aigc("sample", model, "--seeds", "0", "--prompt", "red", "--class", name, "--out", name)
        assert done.code == 0, done.err
    assert (pixels("a/000000.png") != pixels("b/000000.png")).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", " "], ["--prompt is empty"]),
        (["--prompts", "missing.txt"], ["missing.txt cannot be read", "No such file"]),
        (["--prompts", "empty.txt"], ["empty.txt has no prompts"]),
        (["--prompts", "latin.txt"], ["latin.txt is not UTF-8"]),
    ],
)
def test_unusable_prompts_are_explained(aigc, conditional, folder, arguments, words):
    (folder / "empty.txt").write_text(" \n\n")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    done = aigc("sample", conditional("Painter"), "--out", "o", *arguments)
    assert done.code == 2 and all(word in done.err for word in words), done.err
    assert len(done.lines) <= 4 and not (folder / "o").exists()


def test_a_model_without_prompts_says_what_it_takes(aigc, trained, folder):
    done = aigc("sample", trained, "--prompt", "a seven", "--out", "o")
    assert done.code == 2 and "DCGAN does not take --prompt" in done.err and not (folder / "o").exists()


def test_the_page_of_a_model_lists_what_commands_offer(aigc, conditional):
    conditional("Filler")
    painter, filler = (aigc("plugins", "show", name).out for name in ("painter", "filler"))
    assert "Options of aigc sample" in painter and "--prompt  the text of each image" in painter
    assert "--class" in painter and "--noise" in painter and "Options of aigc edit" not in painter
    assert all(option in filler for option in ("--mask", "--reference", "--prompt", "--seed", "--strength"))
    assert "--direction" not in filler
