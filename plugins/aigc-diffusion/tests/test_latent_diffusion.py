"""Diffusion in the latents of a first stage, and guidance by another run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.core.checkpoint import load_with_record, save_weights
from aigc_lightning.core.component import load_component
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.vae import VAE
from aigc_lightning.testing import ModelConformance, NoiseImages

from aigc_diffusion.model import Diffusion

SPEC = ImageSpec(1, 8, 8, class_names=("a", "b", "c"))
TINY: dict[str, Any] = {"width": 8, "multipliers": [1], "attention_levels": [], "patch_size": 1}


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of first stages whose latents are maps and vectors."""
    folder = tmp_path_factory.mktemp("stages")
    torch.manual_seed(0)
    maps = Autoencoder(ImageSpec(1, 8, 8), width=2, num_halvings=1, code_channels=3)
    save_weights(maps, folder / "maps.safetensors", {})
    save_weights(VAE(ImageSpec(1, 8, 8), latent_size=5, width=2), folder / "vectors.safetensors", {})
    save_weights(CNN(SPEC), folder / "cnn.safetensors", {})
    return {path.stem: str(path) for path in folder.iterdir()}


def made(spec: ImageSpec = SPEC, **options: Any) -> Diffusion:
    torch.manual_seed(1)
    model = Diffusion(spec, **{"network_options": TINY, **options})
    for parameter in model.network.parameters():
        if not parameter.any():  # many layers start at 0, where all conditions give the same
            torch.nn.init.normal_(parameter, std=0.2)
    model.configure_model()
    return model.eval()


@pytest.mark.parametrize(("kind", "shape"), [("maps", (3, 4, 4)), ("vectors", (5, 1, 1))])
def test_the_process_works_on_normalised_latents(stages, kind, shape):
    model = made(first_stage=stages[kind])
    data = NoiseImages(1, 8, 8, num_images=64)
    model.setup_from_data(data)
    images = data.training_batch(64)["image"]
    states = model.states(images)
    assert states.shape == (64, *shape) and model.latents([1, 2]).shape == (2, *shape)
    deviation, mean = torch.std_mean(states, dim=(0, 2, 3), correction=0)
    assert torch.allclose(mean, torch.zeros(shape[0]), atol=1e-4)
    assert torch.allclose(deviation, torch.ones(shape[0]), atol=1e-3)
    first_stage: Any = model.first_stage
    assert torch.allclose(model.images(states), first_stage.edit(images), atol=1e-4)


@pytest.mark.parametrize("kind", ["maps", "vectors"])
def test_an_exported_network_gives_the_images_of_its_latents(stages, kind):
    model = made(first_stage=stages[kind])
    model.latent_mean.uniform_(-1, 1)
    graph = model.export_graphs()["denoise"]
    assert isinstance(graph, ExportGraph) and graph.outputs == ("predictions", "images") and graph.loop is not None

    def run(inputs: Any) -> list[Any]:
        with torch.no_grad():
            output = graph.call(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return [part.numpy() for part in output]

    found = graph.loop.module.sample(run, graph.loop.settings, [3, 4], steps=3)
    assert np.abs(found - model.sample([3, 4], steps=3).numpy()).max() < 1e-4


@pytest.mark.parametrize("kind", ["maps", "vectors"])
def test_an_exported_network_encodes_what_it_translates(stages, kind):
    model = made(ImageSpec(1, 8, 8, task="paired"), first_stage=stages[kind])
    graph = model.export_graphs()["denoise"]
    assert isinstance(graph, ExportGraph) and graph.inputs["sources"].shape == ("batch", 1, 8, 8) and graph.loop
    (example, expected), outputs = graph.loop.examples[0], graph.outputs
    assert outputs == ("predictions", "images")

    def run(inputs: Any) -> list[Any]:
        with torch.no_grad():
            return [part.numpy() for part in graph.call(**{name: torch.from_numpy(v) for name, v in inputs.items()})]

    found = graph.loop.module.sample(run, graph.loop.settings, **example)
    assert np.abs(found - expected().numpy()).max() < 1e-4 and found.shape == (3, 1, 8, 8)


@pytest.mark.parametrize("kind", ["maps", "vectors"])
def test_everything_works_through_the_first_stage(stages, kind):
    model = made(first_stage=stages[kind], conditions="labels")
    assert model.sample([0, 1], [2, 0], steps=2, guidance=2.0).shape == (2, 1, 8, 8)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    noise = model.invert(images, [1, 1], steps=16)
    first_stage: Any = model.first_stage
    assert torch.allclose(model.decode(noise, [1, 1], steps=16, sampler="heun"), first_stage.edit(images), atol=0.1)
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 3, 5] = 1
    filled = model.edit(images, masks=masks, seeds=[1, 2], steps=3)
    assert torch.equal(filled[masks == 0], images[masks == 0])
    assert not torch.equal(filled, images)


def test_a_checkpoint_holds_its_first_stage(stages, tmp_path):
    model = made(first_stage=stages["maps"])
    model.latent_mean.fill_(0.5)
    save_weights(model, tmp_path / "model.safetensors", {})
    loaded, _ = load_with_record(tmp_path / "model.safetensors")
    assert torch.equal(loaded.sample([4], steps=2), model.sample([4], steps=2))  # type: ignore[operator]


class TestLatentDiffusion(ModelConformance):
    model = "diffusion"
    left_out = dict.fromkeys(
        ("refuses_what_it_cannot_do", "trains_on_the_shapes_it_claims"), "the first stage decides the channels"
    )

    @pytest.fixture(autouse=True)
    def in_latents(self, stages: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        small = "model.network_options={width: 8, multipliers: [1], attention_levels: [], patch_size: 1}"
        monkeypatch.setattr(type(self), "settings", (small, "data.batch_size=4", f"model.first_stage={stages['maps']}"))


def test_what_is_no_first_stage_is_refused(stages):
    with pytest.raises(UserError, match="does not encode images"):
        made(first_stage=stages["cnn"])
    with pytest.raises(UserError, match="data are 8x8 RGB"):
        made(ImageSpec(3, 8, 8), first_stage=stages["maps"])
    with pytest.raises(UserError, match="would move latents"):
        made(first_stage=stages["maps"], augment_probability=0.1)
    with pytest.raises(UserError, match="pixels"):
        made(first_stage=stages["maps"]).log_likelihood(torch.zeros(1, 1, 8, 8))


def guides(folder: Path, **options: Any) -> str:
    torch.manual_seed(2)
    save_weights(made(**options), folder / "guide.safetensors", {})
    return str(folder / "guide.safetensors")


def test_autoguidance_leads_away_from_the_guide(tmp_path):
    model = made()
    guide = guides(tmp_path, network_options={**TINY, "width": 4})
    plain, guided = model.sample([3], steps=3), model.sample([3], steps=3, guidance=2.0, guide=guide)
    assert not torch.allclose(plain, guided, atol=1e-3)
    assert model.named_components({"steps": 3, "guide": guide}) == {"guide": load_component(guide).sha256}
    assert model.named_components({"steps": 3, "guide": ""}) == {}
    itself = tmp_path / "itself.safetensors"
    save_weights(model, itself, {})
    assert torch.allclose(model.sample([3], steps=3, guidance=2.0, guide=str(itself)), plain, atol=1e-5)


def test_guides_that_mean_something_else_are_refused(tmp_path, stages):
    model = made()
    with pytest.raises(UserError, match="guide .* is a VAE"):
        model.sample([0], guidance=2.0, guide=stages["vectors"])
    with pytest.raises(UserError, match="process is"):
        model.sample([0], guidance=2.0, guide=guides(tmp_path, process="edm"))
    with pytest.raises(UserError, match="guide is given without guidance"):
        model.sample([0], guide=stages["vectors"])
