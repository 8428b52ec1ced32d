"""The loop that is written beside an exported `image_gpt` draws the model's own images."""

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.export_graphs import ExportGraph

from aigc_autoregressive import exported_sampling
from aigc_autoregressive.models.image_gpt import ImageGPTModel
from aigc_autoregressive.noise import gumbel

NAMES = ("a", "b")


def made(spec, **options):
    torch.manual_seed(0)
    model = ImageGPTModel(spec, num_levels=5, width=16, depth=1, num_heads=2, **options)
    torch.nn.init.normal_(model.network.transformer.output.weight, std=0.5)  # zeros would give all pixels alike
    model.configure_model()
    return model.eval()


def graph_of(model):
    graph = model.export_graphs()["predict"]
    assert isinstance(graph, ExportGraph)

    def run(inputs):
        assert list(inputs) == list(graph.inputs)
        with torch.no_grad():
            return [graph.call(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()]

    return graph, run


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (ImageSpec(1, 4, 4, class_names=NAMES), {"conditions": "labels"}),
        (ImageSpec(3, 3, 2), {"position": "learned", "qk_norm": True}),
    ],
)
def test_images_are_those_of_the_model(spec, options):
    model = made(spec, **options)
    graph, run = graph_of(model)
    for temperature in (0.0, 0.7, 1.0):
        expected = model.sample([0, 3, 2**40], temperature=temperature).numpy()
        found = exported_sampling.sample(run, graph.loop.settings, [0, 3, 2**40], temperature=temperature)
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-6
    assert expected.std() > 0.1


def test_classes_and_guidance():
    model = made(ImageSpec(1, 4, 4, class_names=NAMES), conditions="labels")
    graph, run = graph_of(model)
    assert graph.loop.settings["has_guidance"] and graph.inputs["labels"].high == 2  # the third is no class
    expected = model.sample([1, 2], [1, 1], guidance=3.0).numpy()
    assert np.abs(exported_sampling.sample(run, graph.loop.settings, [1, 2], [1, 1], 1.0, 3.0) - expected).max() < 1e-6
    always = graph_of(made(ImageSpec(1, 4, 4, class_names=NAMES), conditions="labels", condition_dropout=0.0))[0]
    assert not always.loop.settings["has_guidance"] and always.inputs["labels"].high == 1


def test_noise_is_that_of_the_model():
    expected = gumbel([0, 5, 2**63], [7], 17)[:, 0].numpy()
    assert np.abs(exported_sampling.gumbel([0, 5, 2**63], 7, 17) - expected).max() < 1e-5


def test_what_is_refused_with_the_reason():
    assert "1,056 numbers" in made(ImageSpec(1, 32, 33)).export_graphs()["sample"]
    options = {"conditions": "prompts", "text_options": {"size": 8, "depth": 1, "heads": 2}}
    refused = made(ImageSpec(1, 4, 4, captions=True), **options).export_graphs()
    assert list(refused) == ["sample", "edit", "embed"] and "depends on the one before" in refused["sample"]
