"""The examples in docstrings, which the API reference shows."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import aigc_lightning

ROOT = Path(aigc_lightning.__file__).parent
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0 and failed == 0


def test_there_are_examples():
    assert len(MODULES) > 10
