"""The one reader of YAML."""

import math
import re
from pathlib import Path

import pytest
import yaml

from aigc_lightning import yaml_file
from aigc_lightning.errors import UserError
from aigc_lightning.yaml_file import check_yaml, parse_yaml, read_yaml

ROOT = Path(__file__).parents[1]


def bomb(levels: int = 9, merged: bool = False) -> str:
    """Return lines that stand for ten times as many values with each level."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        repeated = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{repeated}]}}" if merged else f"[{repeated}]"))
    return "\n".join(lines)


#: YAML and what it stands for.
VALUES = {
    "[1, -3, 1_000, 0x10]": [1, -3, 1000, 16],
    "[1e-3, 1E5, 1., .5, -1.5e3, 1.5]": [0.001, 1e5, 1.0, 0.5, -1500.0, 1.5],
    "[2026-11-21, 1.2.3, a-b, '1']": ["2026-11-21", "1.2.3", "a-b", "1"],
    "[true, no, null, ~, '']": [True, False, None, None, ""],
    "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}": {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}},
    "a: &x {p: 1}\nb: &y {q: 2}\nc: {<<: [*x, *y]}": {"a": {"p": 1}, "b": {"q": 2}, "c": {"p": 1, "q": 2}},
    "a: &x [1]\nb: [*x, *x]": {"a": [1], "b": [[1], [1]]},
    "{1: a, '1': b}": {1: "a", "1": "b"},
    "a: {x: 1}\nb: {x: 1}": {"a": {"x": 1}, "b": {"x": 1}},
    "text: R&D *and* more": {"text": "R&D *and* more"},
    "": None,
}


@pytest.mark.parametrize("text", VALUES)
def test_values(text):
    assert parse_yaml(text) == VALUES[text]
    check_yaml(text)


def test_numbers_without_end():
    found = parse_yaml("[.inf, -.inf, .nan]")
    assert found[:2] == [math.inf, -math.inf] and math.isnan(found[2])


#: What is wrong -> the text, and what the message says.
WRONG = {
    "a key twice": ("a: 1\nb: 2\na: 3", ["f.yaml, line 3", "'a'", "line 1"]),
    "a key twice, quoted": ("x:\n  a: 1\n  'a': 2", ["f.yaml, line 3", "'a'", "line 2"]),
    "a key twice in one line": ("{a: 1, a: 2}", ["f.yaml, line 1", "'a'"]),
    "a key twice in a list": ("- {x: 1}\n- y: 1\n  y: 2", ["f.yaml, line 3", "'y'"]),
    "a bomb": (bomb(), ["f.yaml", "aliases"]),
    "a bomb of merges": (bomb(merged=True), ["f.yaml", "aliases"]),
    "a bomb within a text": (yaml.safe_dump({"x": [bomb()]}), ["f.yaml", "aliases"]),
    "an alias of itself": ("a: &a [*a]", ["f.yaml, line 1", "alias"]),
    "deep": ("[" * 5000, ["f.yaml", "deep"]),
    "no YAML": ("a: [1\nb: 2", ["f.yaml", "not YAML", "line 2"]),
    "an object": ("!!python/object/apply:os.system [x]", ["f.yaml", "not YAML"]),
    "a list as a key": ("? [a]\n: 1", ["f.yaml", "not YAML"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(name, tmp_path, monkeypatch):
    text, said = WRONG[name]
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        read_yaml(Path("f.yaml"))
    assert [part for part in said if part not in error.value.what] == [] and error.value.hint
    if name not in ("no YAML", "an object", "a list as a key"):  # which others complain about
        with pytest.raises(UserError):
            check_yaml(text)


def test_files_that_are_none(tmp_path, monkeypatch):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr(yaml_file, "_MOST_BYTES", 2**20)
    (tmp_path / "large.yaml").write_text("#" * (2**20 + 1))
    for name in ("bytes.yaml", "large.yaml", "missing.yaml"):
        with pytest.raises(UserError, match=name):
            read_yaml(tmp_path / name)


def test_nothing_else_reads_yaml():
    sources = [*(ROOT / "aigc_lightning").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]
    assert len(sources) > 150
    reading = [
        path.relative_to(ROOT).as_posix()
        for path in sources
        if re.search(r"yaml\.(safe_|full_|unsafe_)?(load|compose|parse)", path.read_text(encoding="utf-8"))
    ]
    assert reading == ["aigc_lightning/yaml_file.py"]
