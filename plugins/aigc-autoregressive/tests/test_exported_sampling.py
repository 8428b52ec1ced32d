"""The loop that is written beside an exported transformer draws the model's own images."""

from typing import Any

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.inference.exporting.proof import exported_and_proved

from aigc_autoregressive import exported_noise, exported_sampling
from aigc_autoregressive.levels import to_images
from aigc_autoregressive.models.image_gpt import ImageGPTModel
from aigc_autoregressive.models.maskgit import MaskGITModel
from aigc_autoregressive.models.var import VARModel
from aigc_autoregressive.models.vqgan import VQGANModel
from aigc_autoregressive.noise import gumbel
from aigc_autoregressive.transformers.word_vectors import NUM_ROWS, rows_of

NAMES = ("a", "b")
SMALL = ImageSpec(1, 4, 4, class_names=NAMES)
OF_TOKENS = ImageSpec(1, 8, 8, class_names=NAMES)
MODELS = {"image_gpt": ImageGPTModel, "maskgit": MaskGITModel, "var": VARModel}
SEEDS = [0, 3, 2**40]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, quantizer = tmp_path_factory.mktemp("tokenizers"), {"num_codes": 12, "width": 4}
    small: Any = {"width": 4, "latent_channels": 4, "multipliers": (1, 2)}
    torch.manual_seed(0)
    models = {
        "vq": VQGANModel(OF_TOKENS, quantizer_options=quantizer, **small),
        "scales": VQGANModel(
            OF_TOKENS, "multi_scale", {**quantizer, "scales": [[1, 1], [2, 2], [3, 3], [4, 4]]}, **small
        ),
    }
    for name, model in models.items():
        model.quantizer.codebook.codes.normal_(std=0.3)  # as far apart as latents
        model.configure_model()
        save_weights(model, folder / f"{name}.safetensors", {})
    return {name: str(folder / f"{name}.safetensors") for name in models}


def made(spec: ImageSpec, kind: str = "image_gpt", **options: Any) -> Any:
    torch.manual_seed(0)
    codes = {} if "tokenizer" in options else {"num_levels": 5}
    model = MODELS[kind](spec, width=16, depth=1, num_heads=2, **{**codes, **options})
    for parameter in model.network.parameters():  # at first all tokens are as probable
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.configure_model()
    return model.eval()


def graph_of(model: Any, name: str = "predict") -> Any:
    graph = model.export_graphs()[name]
    assert isinstance(graph, ExportGraph)

    def run(inputs):
        assert list(inputs) == list(graph.inputs)
        with torch.no_grad():
            found = graph.call(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return [part.numpy() for part in ((found,) if isinstance(found, torch.Tensor) else found)]

    return graph, run


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (SMALL, {"conditions": "labels"}),
        (ImageSpec(3, 3, 2), {"position": "learned", "qk_norm": True}),
        (SMALL, {"kind": "maskgit", "conditions": "labels"}),
        (ImageSpec(3, 3, 2), {"kind": "maskgit"}),
        (OF_TOKENS, {"tokenizer": "vq", "conditions": "labels"}),
        (OF_TOKENS, {"kind": "maskgit", "tokenizer": "vq", "conditions": "labels"}),
        (OF_TOKENS, {"kind": "var", "tokenizer": "scales", "conditions": "labels"}),
        (OF_TOKENS, {"kind": "var", "tokenizer": "scales"}),
    ],
)
def test_images_are_those_of_the_model(spec, options, tokenizers):
    if "tokenizer" in options:
        options = {**options, "tokenizer": tokenizers[options["tokenizer"]]}
    model = made(spec, **options)
    graph, run = graph_of(model)
    for temperature in (0.0, 0.7, 1.0):
        expected = model.sample(SEEDS, temperature=temperature).numpy()
        found = exported_sampling.sample(run, graph.loop.settings, SEEDS, temperature=temperature)
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
    assert expected.std() > 1e-3 and np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_steps_and_noise_on_the_confidences(steps):
    model = made(SMALL, "maskgit", conditions="labels")
    graph, run = graph_of(model)
    for noise in (0.0, 2.0):
        expected = model.sample([1, 2], [1, 0], steps=steps, choice_temperature=noise).numpy()
        options = {"steps": steps, "choice_temperature": noise}
        found = exported_sampling.sample(run, graph.loop.settings, [1, 2], [1, 0], **options)
        assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_classes_and_guidance(kind, tokenizers):
    options = {"tokenizer": tokenizers["scales"]} if kind == "var" else {}
    model = made(OF_TOKENS if options else SMALL, kind, conditions="labels", **options)
    graph, run = graph_of(model)
    assert graph.loop.settings["has_guidance"] and graph.inputs["labels"].high == 2  # the third is no class
    expected = model.sample([1, 2], [1, 1], guidance=3.0).numpy()
    assert (
        np.abs(exported_sampling.sample(run, graph.loop.settings, [1, 2], [1, 1], guidance=3.0) - expected).max() < 1e-5
    )
    always = graph_of(made(SMALL, conditions="labels", condition_dropout=0.0))[0]
    assert not always.loop.settings["has_guidance"] and always.inputs["labels"].high == 1


@pytest.mark.parametrize("kind", MODELS)
def test_prompts_and_guidance(kind, tokenizers):
    spec = ImageSpec(1, 8, 8, captions=True) if kind == "var" else ImageSpec(1, 4, 4, captions=True)
    options = {"tokenizer": tokenizers["scales"]} if kind == "var" else {}
    text: Any = {"size": 8, "depth": 1, "heads": 2, "max_length": 24}
    model = made(spec, kind, conditions="prompts", text_options=text, **options)
    graph, run = graph_of(model)
    settings, prompts = graph.loop.settings, ["Two words", "", "\u7ea2\u661f und Rot"]
    assert graph.inputs["texts"].shape == graph.inputs["words"].shape == ("batch", 24) and settings["has_guidance"]
    expected = model.sample(SEEDS, prompts=prompts, guidance=3.0).numpy()
    found = exported_sampling.sample(run, settings, SEEDS, prompts=prompts, guidance=3.0)
    assert np.abs(found - expected).max() < 1e-5
    nothing = exported_sampling.sample(run, settings, SEEDS)
    assert np.abs(nothing - model.sample(SEEDS).numpy()).max() < 1e-5 and np.abs(nothing - found).max() > 1e-3
    with pytest.raises(ValueError, match="24 bytes, and the model reads 23"):
        exported_sampling.sample(run, settings, [0], prompts=["a" * 24])


def test_the_numbers_of_words_are_those_of_the_model():
    for text in ("a Red  star", "", "\u7ea2\u661f und \u30b9", "STRASSE stra\u00dfe"):
        found = exported_sampling.words_of(text, NUM_ROWS)
        assert found == [row + 1 for row in rows_of(text)] and len(found) <= len(text.encode()) + 1


def test_the_image_alone_may_be_asked_for(tokenizers):
    graph, run = graph_of(made(OF_TOKENS, "maskgit", tokenizer=tokenizers["vq"]))
    both = exported_sampling.sample(run, graph.loop.settings, [4])
    alone = exported_sampling.sample(
        lambda inputs: run(inputs)[:1], graph.loop.settings, [4], images=lambda inputs: run(inputs)[1:]
    )
    assert np.array_equal(both, alone)


def test_noise_is_that_of_the_model():
    expected = gumbel([0, 5, 2**63], [7, 900], 17).numpy()
    assert np.abs(exported_noise.gumbel([0, 5, 2**63], [7, 900], 17) - expected).max() < 1e-5


def encoded(loop: Any) -> Any:
    """Return what the argument `encode` of a loop is: None for models of pixels."""
    if not loop.programs:
        return None
    call = loop.programs["encode"].call
    return lambda inputs: [call(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()]


@pytest.mark.parametrize(
    ("kind", "tokenizer"),
    [*((kind, name) for kind in ("image_gpt", "maskgit") for name in ("", "vq")), ("var", "scales")],
)
def test_holes_are_filled_and_all_else_stays(kind, tokenizer, tokenizers):
    spec = OF_TOKENS if tokenizer else ImageSpec(3, 4, 3)
    model = made(spec, kind, **({"tokenizer": tokenizers[tokenizer]} if tokenizer else {}))
    graph, run = graph_of(model)
    pictures, masks = torch.rand(3, *spec.shape) * 2 - 1, torch.zeros(3, 1, *spec.shape[1:])
    masks[0, :, 1:3, 1:] = masks[1:, :, :, 2] = 1
    for hole in (masks, None):
        expected = model.edit(pictures, masks=hole, seeds=SEEDS).numpy()
        given = {"pictures": pictures.numpy(), "masks": None if hole is None else hole.numpy()}
        given["encode"] = encoded(graph.loop)
        found = exported_sampling.sample(run, graph.loop.settings, SEEDS, **given)
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 1e-5
        if hole is not None:
            kept = hole.expand_as(pictures).numpy() == 0
            assert np.array_equal(found[kept], pictures.numpy()[kept]) and not np.array_equal(found, pictures.numpy())


@pytest.mark.parametrize("kind", MODELS)
def test_edits_with_classes_prompts_and_guidance(kind, tokenizers):
    options: Any = {"tokenizer": tokenizers["scales"]} if kind == "var" else {}
    side = 8 if options else 4
    pictures = torch.rand(3, 1, side, side) * 2 - 1
    text: Any = {"size": 8, "depth": 1, "heads": 2, "max_length": 24}
    of_classes = made(OF_TOKENS if options else SMALL, kind, conditions="labels", **options)  # an edit is given none
    captioned = ImageSpec(1, side, side, captions=True)
    of_prompts = made(captioned, kind, conditions="prompts", text_options=text, **options)
    for model, given in (
        (of_classes, {}),
        (of_prompts, {}),
        (of_prompts, {"prompts": ["a", "", "b"], "guidance": 2.0}),
    ):
        graph, run = graph_of(model)
        expected = model.edit(pictures, seeds=SEEDS, **given).numpy()
        given = {**given, "pictures": pictures.numpy(), "encode": encoded(graph.loop)}
        found = exported_sampling.sample(run, graph.loop.settings, SEEDS, **given)
        assert np.abs(found - expected).max() < 1e-5


def test_likelihoods_are_those_of_the_model():
    images = to_images(torch.randint(5, (2, 1, 4, 4)), 5)
    model = made(SMALL, conditions="labels")
    run = graph_of(model, "log_likelihood")[1]
    for labels in ([1, 0], [0, 0]):
        found = run({"images": images.numpy(), "labels": np.array(labels)})[0]
        assert found.dtype == np.float64 and np.abs(found - model.log_likelihood(images, labels).numpy()).max() < 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_features_are_those_of_the_model(kind, tokenizers):
    options = {"tokenizer": tokenizers["scales" if kind == "var" else "vq"]}
    model = made(OF_TOKENS, kind, conditions="labels", **options)
    graph = graph_of(model, "embed")[0]
    proof = exported_and_proved("embed", graph, "pt2")  # at three batches, none of them that of the trace
    assert max(trial.difference for trial in proof.trials) < 1e-5 and min(trial.scale for trial in proof.trials) > 0.01
    images = graph.example(2)["images"]
    assert np.ptp(model.embed(images).numpy(), axis=0).max() > 1e-3  # they depend on the images


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image_gpt", "maskgit", "tokens", "var"])
def test_onnxruntime_gives_the_same(kind, tokenizers):
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="the extra onnx is not installed")
    options: Any = {
        "tokens": {"tokenizer": tokenizers["vq"]},
        "var": {"kind": "var", "tokenizer": tokenizers["scales"]},
    }
    options = options.get(kind, {"kind": kind})
    model = made(OF_TOKENS if "tokenizer" in options else SMALL, conditions="labels", **options)
    for name, graph in model.export_graphs().items():
        if isinstance(graph, ExportGraph) and (kind != "var" or name == "predict"):
            proof = exported_and_proved(name, graph, "onnx")
            assert max(trial.difference / max(1, trial.scale) for trial in proof.trials) < 1e-5
            assert graph.loop is None or proof.loop_difference < 1e-5
            assert list(proof.programs) == (["encode"] if "tokenizer" in options and name == "predict" else [])


def test_what_is_refused_with_the_reason():
    assert "edit" not in made(SMALL).export_graphs()
    always = made(SMALL, conditions="labels", condition_dropout=0.0).export_graphs()
    assert "never trained without labels" in always["edit"]
    assert "1,056 passes" in made(ImageSpec(1, 32, 33)).export_graphs()["sample"]
