"""The file beside an exported `inpaint` fills holes as the model does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.inference.edit_conditions import Conditions
from aigc_lightning.inference.exporting.proof import exported_and_proved
from aigc_lightning.inference.picture_editor import PictureEditor
from PIL import Image
from torch import nn

from aigc_restore import exported_filling
from aigc_restore.inpainting.choice import FILLINGS
from aigc_restore.inpainting.fourier import _back_by_fft, _back_by_matrices, _by_fft, _by_matrices
from aigc_restore.models.inpaint import Inpaint

SPEC = ImageSpec(3, 32, 32, task="restoration", masks=True)
TINY: Any = {"partial": {"width": 4, "num_levels": 2}, "gated": {"width": 2}, "fourier": {"width": 4, "num_blocks": 1}}


def made(network: str, filling: Any) -> tuple[Inpaint, ExportGraph]:
    model = Inpaint(SPEC, network, network_options=TINY[network], filling=filling)
    model.configure_model()
    for module in model.modules():  # the last layers start at 0
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    graph = model.eval().export_graphs()["fill"]
    assert isinstance(graph, ExportGraph) and graph.loop is not None
    return model, graph


def run_of(graph: ExportGraph) -> Any:
    def run(inputs):
        assert list(inputs) == list(graph.inputs)
        with torch.no_grad():
            return [graph.call(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()]

    return run


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(torch.randint(256, (height, width, 3), dtype=torch.uint8).numpy())


def hole(height: int, width: int) -> Image.Image:
    pixels = np.zeros((height, width), np.uint8)
    pixels[4:14, 5:18] = pixels[:, -3:] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("name", "size"), [("smooth", (37, 30)), ("smooth", (1, 9)), ("spectral", (37, 50))])
def test_fillings_are_those_of_the_model(name, size):
    images = 2 * torch.rand(2, 3, *size, dtype=torch.float64) - 1
    masks = torch.zeros(2, 1, *size, dtype=torch.float64)
    masks[0, :, 10:20, 4:20] = masks[1, ..., 2:5] = masks[1, :, -4:] = 1
    function = exported_filling.spectral if name == "spectral" else exported_filling.push_pull
    found = function(images.numpy(), masks.numpy())
    assert np.abs(found - FILLINGS[name](images, masks).numpy()).max() < 1e-5
    assert np.ptp(found) > 0.5


@pytest.mark.parametrize(("network", "filling"), [("fourier", "spectral"), ("gated", "smooth")])
@pytest.mark.parametrize("size", [(32, 32), (21, 38)])
def test_pictures_are_those_of_the_command(network, filling, size, tmp_path, monkeypatch):
    model, graph = made(network, filling)
    assert graph.loop is not None
    picture, mask = noise(*size), hole(*size)
    path = tmp_path / "a.png"
    picture.save(path)
    mask.save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exported_filling, "opened", lambda path: (graph.loop.settings, lambda output: run_of(graph)))
    monkeypatch.setattr("sys.argv", ["model_sample.py", "--pictures", "a.png", "--mask", "mask.png"])
    exported_filling.main()
    found = np.array(Image.open("a_edited.png"))
    editor = PictureEditor(model, 1024, Conditions(masks={path: tmp_path / "mask.png"}))
    expected = np.array(editor.edit(picture, lambda count: None, editor.beside(path, picture)))
    assert np.abs(found.astype(int) - expected).max() <= 1  # processors round differently
    assert (found == expected).mean() > 0.99
    kept = np.array(mask) == 0
    assert np.array_equal(found[kept], np.array(picture)[kept]) and not np.array_equal(found, np.array(picture))


def test_what_the_command_line_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    graph = made("gated", "smooth")[1]
    assert graph.loop is not None
    monkeypatch.setattr(exported_filling, "opened", lambda path: (graph.loop.settings, lambda output: run_of(graph)))
    noise(20, 24).save("a.png")
    noise(24, 20).save("b.png")
    hole(20, 24).save("hole.png")
    Image.new("L", (24, 20)).save("black.png")
    Path("c").mkdir()
    noise(20, 24).save("c/a.png")
    for words, message in (
        (["--pictures", "a.png", "b.png", "--mask", "hole.png"], "differ in size"),
        (["--pictures", "a.png", "--mask", "black.png"], "no white pixel"),
        (["--pictures", "a.png", "c/a.png", "--mask", "hole.png"], "the same name"),
        (["--pictures", "missing.png", "--mask", "hole.png"], "missing.png"),
        (["--pictures", "a.png"], "--mask"),
    ):
        monkeypatch.setattr("sys.argv", ["model_sample.py", *words])
        with pytest.raises(SystemExit) as caught:
            exported_filling.main()
        assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.glob("*_edited.png"))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 6)])
def test_transforms_by_matrices_are_those_of_torch(size):
    features = torch.randn(2, 3, *size)
    spectrum = torch.randn_like(_by_fft(features))
    torch.testing.assert_close(_by_matrices(features), _by_fft(features), atol=1e-5, rtol=0)
    expected = _back_by_fft(spectrum, features)
    torch.testing.assert_close(_back_by_matrices(spectrum, features), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_onnxruntime_gives_the_same():
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    proof = exported_and_proved("fill", made("fourier", "spectral")[1], "onnx")
    assert max(trial.difference for trial in proof.trials) < 1e-5
    assert proof.loop_difference is not None and proof.loop_difference < 1e-4
