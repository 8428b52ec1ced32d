"""`aigc style`: results, their metadata, and mistakes."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from aigc_lightning.cli import main
from PIL import Image

FAST = ["--steps", "5", "--levels", "1"]


def optimize(network: str, *arguments: object) -> int:
    return main(["style", "optimize", *map(str, arguments), "--features", network, *FAST])


def test_a_photograph_is_stylised(
    network: str, picture: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, style, out, film = (
        picture("photo.png"),
        picture("style.png", seed=1),
        tmp_path / "out.png",
        tmp_path / "f.gif",
    )
    assert optimize(network, photo, "--style", style, "brick", "--weights", "2,1", "--out", out, "--film", film) == 0
    with Image.open(out) as result, Image.open(photo) as before:
        assert result.size == (64, 48) and np.abs(np.array(result).astype(int) - np.array(before)).max() > 3
        text = result.info
    assert "edited by a machine-learning model" in text["Description"].lower()
    record = json.loads(text["aigc"])
    assert [style["weight"] for style in record["styles"]] == [2, 1] and record["options"]["steps"] == 5
    assert record["features"]["sha256"] and record["photo"]["file"] == "photo.png" and str(tmp_path) not in text["aigc"]
    with Image.open(film) as frames:
        assert frames.size == (256, 192)
    assert "64x48 pixels" in capsys.readouterr().out


def test_black_parts_of_the_mask_stay(network: str, picture: Callable[..., Path], tmp_path: Path) -> None:
    photo, mask = picture("photo.png"), picture("mask.png", color=0)
    with Image.open(mask) as black:
        black.paste(255, (0, 0, 30, 48))
        black.save(mask)
    out = tmp_path / "out.png"
    assert optimize(network, photo, "--style", "brick", "--mask", mask, "--out", out) == 0
    with Image.open(out) as result, Image.open(photo) as before:
        after, pixels = np.array(result).astype(int), np.array(before).astype(int)
    assert np.array_equal(after[:, 30:], pixels[:, 30:]) and np.abs(after - pixels)[:, :30].max() > 3


def test_the_size_can_be_chosen(network: str, picture: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    assert optimize(network, picture("photo.png", (200, 100)), "--style", "grass", "--size", 80, "--out", out) == 0
    with Image.open(out) as result:
        assert result.size == (80, 40) and result.format == "JPEG"


def test_results_are_judged(picture: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    photo, result = picture("photo.png", (128, 96)), picture("result.png", (128, 96), seed=1)
    assert main(["style", "judge", str(photo), "brick", str(result), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["photo.png", "colours matched", "result.png"]
    assert rows["photo.png"]["style"] == 1 and abs(rows["photo.png"]["content"]) < 1e-5
    assert rows["colours matched"]["content"] < rows["result.png"]["content"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "1,2"], "--weights is '1,2'"),
        (["--weights", "0"], "--weights is '0'"),
        (["--steps", "0"], "--steps is 0"),
        (["--levels", "9"], "--levels is 9"),
        (["--style-scale", "0"], "--style-scale is 0"),
        (["--content-weight", "-1"], "--content-weight is -1"),
        (["--mask", "a.png", "b.png"], "2 masks and 1 styles"),
        (["--out", "photo.png"], "would overwrite"),
        (["--out", "out.webp"], "End it in .png or .jpg"),
        (["--device", "cupboard"], "cupboard"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    message: str,
    network: str,
    picture: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(picture("photo.png").parent)
    assert main(["style", "optimize", "photo.png", "--style", "brick", "--features", network, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) <= 4


def test_a_style_that_is_not_there_is_named(picture: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    photo = picture("photo.png")
    assert main(["style", "judge", str(photo), "nowhere.jpg", str(photo)]) == 2
    assert "There is no style 'nowhere.jpg'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("optimize",), ("judge",)], ids=" ".join)
def test_each_help_ends_with_examples_of_what_the_command_has(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(SystemExit):
        main(["style", *words, "--help"])
    body, _, examples = capsys.readouterr().out.partition("\nExamples:\n")
    lines = [line.split() for line in examples.strip().splitlines()]
    assert lines and all(line[:2] == ["aigc", "style"] for line in lines)
    options = {part for line in lines if line[2:3] == list(words) for part in line if part.startswith("--")}
    assert options <= set(re.findall(r"--[a-z-]+", body))
