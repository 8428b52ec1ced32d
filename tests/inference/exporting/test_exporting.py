"""Graphs that freeze, differ or fail must not pass; those that pass must be what they say."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from aigc_lightning.core.export_graphs import ExportGraph, GraphInput, export_graphs
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.inference.exporting.formats import OnnxFile, ProgramFile
from aigc_lightning.inference.exporting.proof import exported_and_proved, proved
from aigc_lightning.inference.exporting.traced import ExportError, traced
from aigc_lightning.losses.likelihood import discretised_logistic
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.pix2pix import Pix2Pix

TRIALS = [{"batch": 1, "size": 4}, {"batch": 2, "size": 7}, {"batch": 3, "size": 5}]


class Scaled(nn.Module):
    """Multiplies by a weight, and keeps another that nothing uses."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))
        self.unused = nn.Parameter(torch.randn(100_000))


def graph(function, **inputs):
    owner = Scaled()
    given = inputs or {"x": GraphInput(("batch", "size"))}
    return ExportGraph(owner, lambda **values: function(owner, **values), given, ("y",), TRIALS)


def test_a_branch_on_a_size_is_refused():
    def by_batch(owner, x):
        return x * owner.weight if len(x) < 3 else x

    with pytest.raises(ExportError, match=r"thing cannot be exported.*(batch|constant)"):
        traced("thing", graph(by_batch))


def test_a_size_that_is_baked_in_is_refused():
    with pytest.raises(ExportError):
        traced("thing", graph(lambda owner, x: x * owner.weight + torch.ones(x.shape[0], int(x.shape[1]))))


def test_values_that_decide_are_refused():
    with pytest.raises(ExportError):
        traced("thing", graph(lambda owner, x: x * owner.weight if x.sum() > 0 else x))


def test_dimensions_that_have_to_be_equal_are_refused():
    inputs = {"x": GraphInput(("batch", "size")), "z": GraphInput(("size", "batch"))}
    with pytest.raises(ExportError):
        traced("thing", graph(lambda owner, x, z: (x * owner.weight) @ x.T + z @ x + 0 * (x @ x), **inputs))


def test_a_file_that_differs_is_refused():
    given = graph(lambda owner, x: x * owner.weight)
    with pytest.raises(ExportError, match=r"batch 1, size 4 the file differs from the model by 1.0e-02"):
        proved("thing", given, lambda arrays: [arrays["x"] * 3 + 0.01])
    with pytest.raises(ExportError, match="shapes"):
        proved("thing", given, lambda arrays: [arrays["x"][:, :2] * 3])
    with pytest.raises(ExportError, match="does not run with batch 1, size 4: no"):
        proved("thing", given, lambda arrays: (_ for _ in ()).throw(RuntimeError("no")))
    assert len(proved("thing", given, lambda arrays: [arrays["x"] * 3])) == 3


def test_values_that_are_not_numbers_are_a_difference():
    given = graph(lambda owner, x: x * owner.weight)
    with pytest.raises(ExportError, match="differs"):
        proved("thing", given, lambda arrays: [arrays["x"] * np.float32("nan")])


def test_a_program_runs_from_its_file_alone_without_unused_weights(tmp_path):
    given = graph(lambda owner, x: x * owner.weight)
    file = ProgramFile(traced("thing", given))
    file.write(tmp_path / "a.pt2", json.dumps({"graph": "thing"}))
    extra = {"aigc.json": ""}
    module = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    assert torch.equal(module(x=torch.ones(5, 9)), torch.full((5, 9), 3.0))
    assert json.loads(extra["aigc.json"]) == {"graph": "thing"}
    assert (tmp_path / "a.pt2").stat().st_size < 100_000


def test_onnx_has_the_names_of_dimensions_and_the_metadata(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    given = graph(lambda owner, x: torch.cat([x * owner.weight, x], dim=1))
    file = OnnxFile("thing", given, traced("thing", given))
    assert max(trial.difference for trial in proved("thing", given, file.run())) < 1e-6
    file.write(tmp_path / "a.onnx", "text")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert session.get_inputs()[0].name == "x" and session.get_inputs()[0].shape == ["batch", "size"]
    assert session.get_outputs()[0].name == "y" and session.get_outputs()[0].shape == ["batch", "2*size"]
    assert session.get_modelmeta().custom_metadata_map["aigc"] == "text"


def test_log_probabilities_of_narrow_and_wide_pixels_survive_onnx():
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")

    def log_prob(owner, values, means, log_scales):
        return discretised_logistic(values, means, log_scales, 17) * owner.weight

    sizes = ("batch", "size")
    given = {
        "values": GraphInput(sizes, -1, 1),
        "means": GraphInput(sizes, -2, 2),
        "log_scales": GraphInput(sizes, -7, 7),
    }
    proof = exported_and_proved("log_prob", graph(log_prob, **given), "onnx")
    assert max(trial.difference / trial.scale for trial in proof.trials) < 1e-6


def edit_of(model):
    torch.manual_seed(0)
    for weight in model.parameters():  # new networks return their input: all weights must count
        nn.init.normal_(weight, std=0.2)
    found = export_graphs(model.eval())["edit"]
    assert isinstance(found, ExportGraph)
    return found


def is_proved(given, least):
    proof = exported_and_proved("edit", given, "pt2")
    assert proof.program.limits == {"batch": (1, None), "height": (least, None), "width": (least, None)}
    assert max(trial.difference for trial in proof.trials) < 1e-5


def test_the_batch_of_the_u_net_is_not_frozen():
    is_proved(edit_of(Pix2Pix(ImageSpec(3, 24, 24, task="paired"), width=2, discriminator_width=2)), 16)


@pytest.mark.parametrize("task", ["restoration", "generation"])
def test_the_padding_of_the_autoencoder_is_not_frozen(task):
    is_proved(edit_of(Autoencoder(ImageSpec(1, 8, 8, task=task), width=2, num_halvings=2)), 1)
