"""The table of docs/export.md: what each built-in model exports, and whether other runtimes give the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_lightning import plugins
from aigc_lightning.core.capabilities import capabilities
from aigc_lightning.core.export_graphs import ExportGraph, export_graphs
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.inference.exporting.proof import exported_and_proved

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
#: The graphs by which a capability is exported.
_GRAPHS = {"sample": ("decode",), "edit": ("edit", "edit_AtoB", "edit_BtoA"), "encode": ("encode", "embed")}
_COLUMNS = ("sample", "edit", "embed", "classify", "encode", "log_likelihood")


def made(name: str) -> Any:
    """Return a small model."""
    torch.manual_seed(0)
    task = _TASKS.get(name, "generation")
    spec = ImageSpec(1, 32, 32, () if task != "generation" else _CLASSES, task=task)
    return plugins.find("model", name).load()(spec, **_OPTIONS[name]).eval()


def cell(capability: str, has: bool, graphs: dict[str, ExportGraph | str]) -> str:
    """Return how a model exports a capability."""
    wanted = _GRAPHS.get(capability, (capability,))
    found = {name: graph for name in wanted if isinstance(graph := graphs.get(name), ExportGraph)}
    if not has:
        return ""
    if not found:
        return "no"
    names = list(found) if capability != "encode" else list(found)[:1]
    size = "any size" if "height" in found[names[0]].dynamic else "one size"
    return f"{', '.join(f'`{name}`' for name in names)}, {size}" if capability != "sample" else f"`{names[0]}`"


def row(name: str) -> str:
    """Return the line of a model."""
    model = made(name)
    graphs, known = export_graphs(model), capabilities(model)
    cells = [cell(capability, capability in known, graphs) for capability in _COLUMNS]
    return f"| `{name}` | " + " | ".join(cells) + " |"


def test_the_table_is_true():
    """To write the table again: print the rows."""
    names = sorted(plugin.name for plugin in plugins.plugins("model") if plugin.is_builtin)
    assert names == sorted(_OPTIONS), "A new model needs a line in the table."
    table = [line for line in _PAGE.read_text().splitlines() if re.match(r"\| `\w+` \|.*\|$", line)]
    for name in names:
        assert row(name) in table, f"docs/export.md: write {row(name)}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_OPTIONS))
def test_other_runtimes_give_the_same(name):
    for graph_name, graph in export_graphs(made(name)).items():
        if isinstance(graph, ExportGraph):
            for kind in ("onnx", "pt2"):
                exported_and_proved(graph_name, graph, kind)
