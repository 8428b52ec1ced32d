"""The sampler that is written beside an exported network makes the model's own images."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core import exported_files
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.inference.exporting.proof import exported_and_proved
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.vae import VAE

from aigc_diffusion import exported_sampling
from aigc_diffusion.model import Diffusion

SPEC = ImageSpec(1, 8, 8, class_names=("a", "b", "c"))
CASES: list[dict[str, Any]] = [
    {"conditions": "labels", "process_options": {"shift": 3.0}},
    {"process_options": {"prediction": "x0"}},
    {"process": "edm", "conditions": "labels", "augment_probability": 0.1},
    {"process": "vp"},
    {"process": "vp", "process_options": {"prediction": "v", "zero_terminal_snr": True}},
    {"process": "mean_flow", "conditions": "labels"},
]


def made(spec: ImageSpec = SPEC, **options: Any) -> Diffusion:
    """Return a model without layers of zeros, with which all classes would give the same."""
    torch.manual_seed(0)
    model = Diffusion(spec, network_options={"width": 8, "multipliers": [1, 1]}, **options)
    for parameter in model.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    model.configure_model()
    return model.eval()


def graph_of(model: Diffusion) -> tuple[ExportGraph, exported_sampling.Run]:
    """Return what is exported, and what runs it in PyTorch."""
    graph = model.export_graphs()["denoise"]
    assert isinstance(graph, ExportGraph) and graph.loop is not None

    def run(inputs: Any) -> list[Any]:
        assert list(inputs) == list(graph.inputs)
        with torch.no_grad():
            output = graph.call(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return [part.numpy() for part in (output if isinstance(output, tuple) else (output,))]

    return graph, run


@pytest.mark.parametrize("options", CASES, ids=str)
def test_images_are_those_of_the_model(options, monkeypatch):
    model, seeds, labels = made(**options), [5, 0, 10**9], [2, 0, 1]
    graph, run = graph_of(model)
    noise = np.stack([exported_sampling.normal(seed, SPEC.shape) for seed in seeds])
    classes = labels if "labels" in graph.inputs else None
    condition = exported_sampling.condition_of(graph.loop.settings, seeds, classes, None)
    for steps in (1, 2, 9):
        clipped = exported_sampling.sample(run, graph.loop.settings, seeds, steps=steps)
        assert clipped.dtype == np.float32 and np.abs(clipped - model.sample(seeds, steps=steps).numpy()).max() < 1e-4
        with monkeypatch.context() as patch:  # untrained models of noise give black and white
            patch.setattr(model, "images", lambda states: states)
            expected = model.sample(seeds, classes, steps=steps).numpy()
        found = exported_sampling.denoised(run, graph.loop.settings, noise, condition, steps)
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_more_steps_than_the_process_has():
    for process in ("vp", "flow"):
        model = made(process=process, process_options={"prediction": "x0"})
        settings = graph_of(model)[0].loop.settings
        for steps in (1000, 1001, 1500):
            grid = model.process.grid(steps).numpy()
            assert np.abs(exported_sampling.grid(settings, steps) - grid).max() < 1e-12


def test_classes_and_guidance():
    model = made(conditions="labels")
    graph, run = graph_of(model)
    assert graph.loop.settings["has_guidance"] and graph.inputs["labels"].high == 3  # the fourth is no class
    expected = model.sample([1, 2], [2, 0], steps=3, guidance=3.0).numpy()
    found = exported_sampling.sample(run, graph.loop.settings, [1, 2], [2, 0], steps=3, guidance=3.0)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(found - exported_sampling.sample(run, graph.loop.settings, [1, 2], [2, 0], steps=3)).max() > 1e-3
    never_without = graph_of(made(conditions="labels", condition_dropout=0.0))[0]
    assert not never_without.loop.settings["has_guidance"] and never_without.inputs["labels"].high == 2


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (16,), (15,), (1, 2, 1)])
def test_noise_of_a_seed_is_that_of_pytorch(shape):
    seeds = [0, 7, 2**40]
    found = np.stack([exported_sampling.normal(seed, shape) for seed in seeds])
    assert np.abs(found - seeded_normal(seeds, *shape).numpy()).max() < 1e-5


def test_prompts_and_guidance():
    texts = ["a cat", "ein Bär"]
    model = made(ImageSpec(1, 8, 8, captions=True), conditions="prompts")
    graph, run = graph_of(model)
    settings = graph.loop.settings
    assert graph.inputs["texts"].shape == ("batch", settings["text_length"]) and settings["has_guidance"]
    assert torch.equal(torch.from_numpy(exported_files.text_tokens(texts, 96)), model.network.texts.tokenize(texts))
    expected = model.sample([1, 2], prompts=texts, steps=3, guidance=3.0).numpy()
    found = exported_sampling.sample(run, settings, [1, 2], prompts=texts, steps=3, guidance=3.0)
    assert np.abs(found - expected).max() < 1e-4
    nothing = exported_sampling.sample(run, settings, [1, 2], steps=3)
    assert np.abs(nothing - model.sample([1, 2], steps=3).numpy()).max() < 1e-4
    assert np.abs(found - nothing).max() > 1e-3
    with pytest.raises(ValueError, match="100 bytes, and the model reads 95"):
        exported_files.text_tokens(["a" * 100], 96)


def of_pairs(**options: Any) -> Diffusion:
    return made(ImageSpec(1, 8, 8, task="paired"), **options)


def pictures_like(spec: ImageSpec) -> torch.Tensor:
    levels = torch.randint(256, (3, *spec.shape), generator=torch.Generator().manual_seed(1))
    return levels / 127.5 - 1


@pytest.mark.parametrize("options", [{}, {"process": "edm"}, {"process": "vp"}, {"process": "mean_flow"}], ids=str)
def test_pairs_are_translated(options):
    model = of_pairs(**options)
    graph, run = graph_of(model)
    assert graph.inputs["sources"].shape == ("batch", 1, 8, 8) and graph.loop.settings["edits"] == "pairs"
    pictures = pictures_like(SPEC)
    expected = model.edit(pictures, seeds=[5, 0, 7], steps=3).numpy()
    found = exported_sampling.sample(run, graph.loop.settings, [5, 0, 7], steps=3, pictures=pictures.numpy())
    assert np.abs(found - expected).max() < 1e-4
    others = exported_sampling.sample(run, graph.loop.settings, [5, 0, 7], steps=3, pictures=-pictures.numpy())
    assert np.abs(found - others).max() > 1e-3  # it looks at the pictures
    with pytest.raises(ValueError, match="none are given"):
        exported_sampling.sample(run, graph.loop.settings, [0])


@pytest.mark.parametrize(
    "options", [{"conditions": "labels"}, {"process": "edm"}, {"process": "vp"}, {"process": "mean_flow"}], ids=str
)
def test_holes_are_filled_and_all_else_stays(options):
    model = made(**options)
    graph, run = graph_of(model)
    pictures, masks = pictures_like(SPEC), torch.zeros(3, 1, 8, 8)
    masks[:, :, 2:, 3:] = 1
    for hole, strength, steps in ((masks, 0.0, 4), (None, 0.0, 4), (masks, 0.3, 7), (None, 1.0, 2), (None, 0.01, 3)):
        expected = model.edit(pictures, masks=hole, seeds=[5, 0, 7], strength=strength, steps=steps).numpy()
        given = {"masks": None if hole is None else hole.numpy(), "strength": strength, "steps": steps}
        found = exported_sampling.sample(run, graph.loop.settings, [5, 0, 7], pictures=pictures.numpy(), **given)
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-4
        if hole is not None:
            kept = hole.expand_as(pictures).numpy() == 0
            assert np.array_equal(found[kept], pictures.numpy()[kept]) and not np.array_equal(found, pictures.numpy())


def test_edits_with_prompts_and_guidance():
    model = made(ImageSpec(1, 8, 8, captions=True), conditions="prompts")
    graph, run = graph_of(model)
    pictures, given = pictures_like(SPEC), {"prompts": ["a", "b c", ""], "guidance": 2.0, "steps": 3}
    expected = model.edit(pictures, seeds=[0, 1, 2], **given).numpy()
    found = exported_sampling.sample(run, graph.loop.settings, [0, 1, 2], pictures=pictures.numpy(), **given)
    assert np.abs(found - expected).max() < 1e-4


@pytest.fixture(params=["maps", "vectors"])
def of_latents(request, tmp_path) -> Diffusion:
    """A model of an autoencoder's latents, which are maps of places, or of a VAE's, which are vectors."""
    torch.manual_seed(0)
    stage = Autoencoder(SPEC, width=4, num_halvings=1, code_channels=2) if request.param == "maps" else VAE(SPEC)
    save_weights(stage, tmp_path / "stage.safetensors", {})
    model = made(conditions="labels", first_stage=str(tmp_path / "stage.safetensors"))
    model.latent_mean.fill_(0.1)
    model.latent_std.fill_(0.5)
    return model


def test_pictures_of_models_of_latents_are_encoded_by_a_program_of_its_own(of_latents):
    graph, run = graph_of(of_latents)
    encoder, pictures = graph.loop.programs["encode"], pictures_like(SPEC)
    latents = encoder.call(pictures)
    assert torch.equal(latents, of_latents.states(pictures)) and latents.shape[1:] == of_latents.state_shape
    masks = torch.zeros(3, 1, 8, 8)
    masks[0, :, 2:, 3:] = masks[1:, :, 7, 5] = 1
    for hole, strength in ((masks, 0.0), (None, 0.0), (masks, 0.4)):
        expected = of_latents.edit(pictures, masks=hole, seeds=[5, 0, 7], strength=strength, steps=4).numpy()
        given = {"masks": None if hole is None else hole.numpy(), "strength": strength, "steps": 4}
        given["encode"] = lambda inputs: [encoder.call(torch.from_numpy(inputs["images"])).detach().numpy()]
        found = exported_sampling.sample(run, graph.loop.settings, [5, 0, 7], pictures=pictures.numpy(), **given)
        assert np.abs(found - expected).max() < 1e-4 and np.abs(found - pictures.numpy()).max() > 1e-3
        if hole is not None:
            kept = hole.numpy() == 0
            assert np.array_equal(found[kept], pictures.numpy()[kept])
    proof = exported_and_proved("denoise", graph, "pt2")
    assert max(trial.difference for trial in proof.programs["encode"].trials) < 1e-5


def test_what_is_not_exported_has_a_reason(of_latents):
    assert "no likelihood" in of_latents.export_graphs()["log_likelihood"]
    assert "edit" not in of_latents.export_graphs()
    assert "gradients" in made().export_graphs()["log_likelihood"]
    assert list(of_pairs().export_graphs()) == ["denoise"]
    assert len(graph_of(made())[0].loop.examples) == 2  # edits are compared as well


def test_the_file_needs_no_pytorch():
    source = graph_of(made())[0].loop.source()
    imported = set(re.findall(r"^\s*(?:from|import) ([a-z_A-Z]+)", source, flags=re.M))
    standard = {"argparse", "collections", "itertools", "json", "math", "pathlib", "struct", "sys", "typing", "zlib"}
    assert imported == {"numpy", "onnxruntime", "PIL"} | standard
