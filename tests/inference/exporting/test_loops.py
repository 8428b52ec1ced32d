"""The loop around a program that is one step is written only if it makes the model's results."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from aigc_lightning.core.export_graphs import ExportGraph, GraphInput
from aigc_lightning.core.export_loops import ExportLoop
from aigc_lightning.inference.exporting import files
from aigc_lightning.inference.exporting.proof import DifferenceError, exported_and_proved, loop_proved
from aigc_lightning.inference.exporting.traced import ExportError

SOURCE = '''"""Doubles a number some times."""

import numpy as np


def sample(run, settings, start):
    x = np.full((1, 2), start, np.float32)
    for _ in range(settings["steps"]):
        (x,) = run({"x": x})
    return x


def main():
    from pathlib import Path

    import onnxruntime

    session = onnxruntime.InferenceSession(Path(__file__).with_name("step.onnx"))
    print(sample(lambda inputs: session.run(None, inputs), {"steps": 3}, 1.0).tolist())


if __name__ == "__main__":
    main()
'''


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.weight


@pytest.fixture
def graph(tmp_path, monkeypatch):
    """A step that doubles, and three of them."""
    path = tmp_path / "doubling.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("doubling")

    del sys.modules["doubling"]

    def make(expected=8.0):
        loop = ExportLoop(module, {"steps": 3}, {"start": 1.0}, lambda: torch.full((1, 2), expected))
        owner = Doubled()
        return ExportGraph(owner, owner.forward, {"x": GraphInput(("batch", 2))}, ("y",), loop=loop)

    return make


def test_results_have_to_be_the_models(graph):
    assert exported_and_proved("step", graph(), "pt2").loop_difference == 0

    def run(inputs):
        return [2 * inputs["x"]]

    with pytest.raises(DifferenceError, match=r"differ from the model's by 1\.0e-02"):
        loop_proved("step", graph(8.01).loop, run)
    with pytest.raises(DifferenceError, match="shape"):
        loop_proved("step", graph().loop, lambda inputs: [inputs["x"][:, :1]])
    with pytest.raises(ExportError, match="the loop around it fails"):
        loop_proved("step", graph().loop, lambda inputs: [inputs["missing"]])


def test_the_file_beside_a_program(aigc, aigc_process, trained, folder, graph, monkeypatch):
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    monkeypatch.setattr(files, "export_graphs", lambda model: {"step": graph()})
    command = ("export", trained, "--format", "onnx", "--out", "step")
    script = Path("step_sample.py")
    script.write_text("print('mine')\n")
    refused = aigc(*command)
    assert refused.code == 2 and "step_sample.py" in refused.err and "another --out" in refused.err
    assert script.read_text() == "print('mine')\n" and not Path("step.onnx").exists()

    script.unlink()
    for _ in range(2):  # its own file is replaced
        done = aigc(*command)
        assert done.code == 0 and "step_sample.py: the loop around it, largest difference 0.0e+00" in done.out
    assert script.read_text() == SOURCE
    assert aigc_process(sys.executable, script).out == "[[8.0, 8.0]]\n"
    session = sys.modules["onnxruntime"].InferenceSession("step.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map["aigc"])["loop"]
    assert about == {"settings": {"steps": 3}, "proof": {"examples": [{"start": 1.0}], "largest_difference": 0.0}}
    quantized = aigc(*command, "--quantize", "int8")
    assert quantized.code == 2 and "in float32" in quantized.err


def test_a_pt2_program_has_no_file(aigc, trained, folder, graph, monkeypatch):
    monkeypatch.setattr(files, "export_graphs", lambda model: {"step": graph()})
    assert aigc("export", trained, "--format", "pt2", "--out", "step").code == 0
    assert [path.name for path in folder.glob("step*")] == ["step.pt2"]
