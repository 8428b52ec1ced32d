"""The file of a loop has what it needs of its parts in it."""

import importlib
import re
from typing import Any

import pytest
import torch

from aigc_lightning.core import exported_files
from aigc_lightning.core.export_loops import ExportLoop

LOOP = '''"""Counts.

In a file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from aigc_lightning.core.exported_files import Array, text_tokens


def {name}(run: object, settings: object, texts: Sequence[str]) -> Array:
    return text_tokens(texts, 4) + np.int64(len(Path("a").name))
'''


@pytest.fixture
def loop(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def made(stem, name="sample"):
        (tmp_path / f"{stem}.py").write_text(LOOP.format(name=name))
        module = importlib.import_module(stem)
        return ExportLoop(module, {}, {}, lambda: torch.zeros(1), parts=(exported_files,))

    return made


def test_the_file_stands_alone(loop):
    source = loop("counting").source()
    assert source.startswith('"""Counts.\n\nIn a file.\n"""\n\nimport argparse\n') and source.endswith("name))\n")
    assert "aigc_lightning" not in re.sub('"""(.|\n)*?"""', "", source)
    assert source.count("import numpy") == 1 and "from collections.abc import Callable, Mapping, Sequence" in source
    names: dict[str, Any] = {}
    exec(compile(source, "file", "exec"), names)
    assert names["sample"](None, {}, ["a"]).tolist() == [[2, 100, 1, 1]]


def test_names_may_not_clash(loop):
    with pytest.raises(AssertionError, match="same name"):
        loop("clashing", "write_png").source()
