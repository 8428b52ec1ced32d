"""The table of docs/export.md: what each built-in model exports, and whether other runtimes give the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_lightning import plugins
from aigc_lightning.core.export_graphs import ExportGraph, export_graphs
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.inference.exporting.proof import exported_and_proved
from aigc_lightning.testing.export_checks import missing_rows

_PAGE = Path(__file__).parents[3] / "docs" / "export.md"
_CLASSES = ("a", "b", "c")
_OPTIONS: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 4},
    "cnn": {"width": 4},
    "cyclegan": {"width": 4, "num_blocks": 1, "discriminator_width": 4},
    "dcgan": {"width": 4, "conditioning": "projection"},
    "metric": {"width": 4, "loss": "arcface"},
    "pix2pix": {"width": 4, "discriminator_width": 4},
    "vae": {"width": 4},
}
_TASKS = {"pix2pix": "paired", "cyclegan": "unpaired"}


def made(name: str) -> Any:
    """Return a small model."""
    torch.manual_seed(0)
    task = _TASKS.get(name, "generation")
    spec = ImageSpec(1, 32, 32, () if task != "generation" else _CLASSES, task=task)
    return plugins.find("model", name).load()(spec, **_OPTIONS[name]).eval()


def test_the_table_is_true():
    names = sorted(plugin.name for plugin in plugins.plugins("model") if plugin.is_builtin)
    assert names == sorted(_OPTIONS), "A new model needs a line in the table."
    assert missing_rows(_PAGE.read_text(), {f"`{name}`": made(name) for name in names}) == []


def test_the_table_of_packages_is_that_of_their_pages():
    """Each package checks its own table."""
    pages = [path.read_text() for path in sorted(_PAGE.parents[1].glob("plugins/*/README.md"))]
    rows = [row for page in pages for row in _rows(page)]
    assert len(rows) > 10 and sorted(rows) == sorted(_rows(_PAGE.read_text().split("packages in `plugins/`")[1]))


def _rows(page: str) -> list[str]:
    """Return the lines of the first table of what is exported in a page, if it has one."""
    _, _, rest = page.partition("| encode | log_likelihood |\n|---|---|---|---|---|---|---|\n")
    return [line for line in rest.split("\n\n")[0].splitlines() if line]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_OPTIONS))
def test_other_runtimes_give_the_same(name):
    for graph_name, graph in export_graphs(made(name)).items():
        if isinstance(graph, ExportGraph):
            for kind in ("onnx", "pt2"):
                exported_and_proved(graph_name, graph, kind)
