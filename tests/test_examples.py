"""The scripts and notebooks of examples/, run as a reader would run them; scripts with fewer steps."""

import importlib.util
import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = {
    "train_with_lightning": {"steps": 4},
    "sample_and_edit": {"steps": 8},
    "evaluate_folders": {"steps": 40, "num": 60},
    "custom_loop": {"steps": 2},
}
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="not a checkout")


def test_every_script_is_short_and_tested():
    scripts = {path.stem: path for path in EXAMPLES.glob("*.py")}
    assert set(scripts) == {*SHORT, "my_gan"}  # which has a test of its own
    for path in scripts.values():
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_script_runs(name, folder):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(**SHORT[name])
    assert any(folder.iterdir())


NOTEBOOKS = ("train", "sample_and_edit", "evaluate")


def test_every_notebook_is_stripped_and_tested():
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(NOTEBOOKS)
    for path in EXAMPLES.glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None, path


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_shows_pictures(name, folder):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in shown and (name == "sample_and_edit" or "text/html" in shown)
