"""The loop that is written beside an exported `pixelcnn` or `pixelrnn` draws the model's own images."""

from typing import Any

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.inference.exporting.proof import exported_and_proved

from aigc_autoregressive import exported_pixels
from aigc_autoregressive.levels import to_images
from aigc_autoregressive.models.pixelcnn import PixelCNNModel
from aigc_autoregressive.models.pixelrnn import PixelRNNModel

NAMES = ("a", "b", "c")
SEEDS = [0, 3, 2**40]


def made(kind: str, spec: ImageSpec, **options: Any) -> Any:
    torch.manual_seed(0)
    model: Any
    if kind == "cnn":
        model = PixelCNNModel(spec, **{"width": 8, "num_blocks": 1, "num_components": 3, **options})
    else:
        model = PixelRNNModel(spec, **{"width": 8, "num_layers": 1, "head_width": 16, **options})
    for name, parameter in model.network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.3)
    model.configure_model()
    return model.eval()


def graph_of(model: Any, name: str = "predict") -> Any:
    graph = model.export_graphs()[name]
    assert isinstance(graph, ExportGraph)

    def run(inputs):
        assert list(inputs) == list(graph.inputs)
        with torch.no_grad():
            return [graph.call(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()]

    return graph, run


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (ImageSpec(1, 4, 5, class_names=NAMES), {"conditions": "labels"}),
        (ImageSpec(3, 3, 2), {"num_levels": 17}),
        (ImageSpec(4, 2, 2), {"num_levels": 5}),
    ],
)
def test_images_are_those_of_the_model(kind, spec, options):
    model = made(kind, spec, **options)
    graph, run = graph_of(model)
    for temperature in (0.0, 0.7, 1.0):
        expected = model.sample(SEEDS, temperature=temperature).numpy()
        found = exported_pixels.sample(run, graph.loop.settings, SEEDS, temperature=temperature)
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    if "conditions" in options:
        labels = [2, 0, 1]
        found = exported_pixels.sample(run, graph.loop.settings, SEEDS, labels)
        assert np.abs(found - model.sample(SEEDS, labels).numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_holes_are_filled_and_all_else_stays(kind):
    model = made(kind, ImageSpec(3, 4, 3))
    graph, run = graph_of(model)
    pictures, masks = torch.rand(3, 3, 4, 3) * 2 - 1, torch.zeros(3, 1, 4, 3)
    masks[0, :, 1:3, 1:] = masks[1:, :, :, 2] = 1
    for hole in (masks, None):
        expected = model.edit(pictures, masks=hole, seeds=SEEDS).numpy()
        given = {"pictures": pictures.numpy(), "masks": None if hole is None else hole.numpy()}
        found = exported_pixels.sample(run, graph.loop.settings, SEEDS, **given)
        assert np.abs(found - expected).max() < 1e-5
        if hole is not None:
            kept = hole.expand_as(pictures).numpy() == 0
            assert np.array_equal(found[kept], pictures.numpy()[kept]) and not np.array_equal(found, pictures.numpy())


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_the_class_of_a_picture_is_drawn_by_its_probability(kind):
    model = made(kind, ImageSpec(1, 4, 3, class_names=NAMES), conditions="labels")
    graph, run = graph_of(model)
    program = graph.loop.programs["log_prob"]
    pictures, masks, given = torch.rand(3, 1, 4, 3) * 2 - 1, torch.zeros(3, 1, 4, 3), []
    masks[0, :, 2:] = masks[1:, :, 1:, 1:] = 1

    def log_prob(inputs):
        with torch.no_grad():
            return [program.call(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()]

    def watched(inputs):
        given.append(inputs["labels"].tolist())
        return run(inputs)

    for seeds in ([0, 1, 2], [3, 4, 2**40]):
        expected = model.edit(pictures, masks=masks, seeds=seeds).numpy()
        options = {"pictures": pictures.numpy(), "masks": masks.numpy(), "log_prob": log_prob}
        found = exported_pixels.sample(watched, graph.loop.settings, seeds, **options)
        assert np.abs(found - expected).max() < 1e-5
    assert len({tuple(labels) for labels in given}) == 2  # one for each call of `sample`


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_likelihoods_are_those_of_the_model(kind):
    model = made(kind, ImageSpec(3, 3, 2, class_names=NAMES), conditions="labels", num_levels=17)
    images = to_images(torch.randint(17, (2, 3, 3, 2)), 17)
    found = graph_of(model, "log_likelihood")[1]({"images": images.numpy(), "labels": np.array([2, 0])})[0]
    assert found.dtype == np.float64
    assert np.abs(found - model.log_likelihood(images, [2, 0]).numpy()).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_onnxruntime_gives_the_same(kind):
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    model = made(kind, ImageSpec(1, 4, 4, class_names=NAMES), num_levels=5, conditions="labels")
    proof = exported_and_proved("predict", graph_of(model)[0], "onnx")
    for each in (proof, proof.programs["log_prob"]):
        assert max(trial.difference / max(1, trial.scale) for trial in each.trials) < 1e-5
    assert proof.loop_difference is not None and proof.loop_difference < 1e-5


def test_what_is_refused_with_the_reason():
    graphs = made("rnn", ImageSpec(3, 19, 18)).export_graphs()
    assert "1,026 passes" in graphs["sample"] and isinstance(graphs["log_likelihood"], ExportGraph)
    assert "predict" in made("cnn", ImageSpec(3, 19, 18)).export_graphs()
