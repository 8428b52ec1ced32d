import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aigc_lightning.core.checkpoint import file_hash, load_model
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.data.sets.digits import Digits


def test_an_export_holds_the_weights_and_says_what_made_them(aigc, trained, folder):
    done = aigc("export", trained)
    assert done.code == 0 and "model.safetensors" in done.out and "aigc sample model.safetensors" in done.out
    model = load_model(trained)
    with safe_open("model.safetensors", framework="pt") as file:
        record = json.loads(file.metadata()[RECORD_KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert record["class_path"] == "aigc_lightning.models.dcgan.DCGAN"
    assert record["config"]["latent_size"] == 4 and record["spec"]["height"] == 8
    assert record["sha256"] == file_hash(trained / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("out", "file"), [("a.safetensors", "a.safetensors"), ("b", "b.safetensors"), ("v1.0", "v1.0.safetensors")]
)
def test_the_ending_is_added(out, file, aigc, trained, folder):
    assert aigc("export", trained, "--out", out).code == 0
    assert (folder / file).is_file()


def test_a_place_that_cannot_be_written(aigc, trained, folder):
    (folder / "file").write_text("")
    done = aigc("export", trained, "--out", "file/model")
    assert done.code == 2 and "file" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("kind", ["text", "no record", "wrong record", "truncated"])
def test_a_file_that_is_no_export(kind, aigc, trained, folder):
    path = Path("bad.safetensors")
    if kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        aigc("export", trained, "--out", "whole")
        path.write_bytes(Path("whole.safetensors").read_bytes()[:-100])
    else:
        save_file({"a": torch.zeros(1)}, path, metadata={RECORD_KEY: "[3]"} if kind == "wrong record" else None)
    done = aigc("sample", path)
    assert done.code == 2 and "bad.safetensors" in done.err and len(done.lines) <= 4


def test_a_program_says_how_it_was_made_and_that_it_is_right(aigc, trained, folder):
    done = aigc("export", trained, "--format", "pt2", "--out", "gan")
    assert done.code == 0 and "gan.pt2" in done.out and done.out.count("largest difference") == 3
    extra = {"aigc.json": ""}
    program = torch.export.load("gan.pt2", extra_files=extra).module()
    record = json.loads(extra["aigc.json"])
    assert record["sha256"] == file_hash(trained / "checkpoints" / "last.ckpt") and record["graph"] == "decode"
    assert record["inputs"]["latents"] == {
        "shape": ["batch", 4],
        "dtype": "float32",
        "range": None,
        "meaning": "standard normal numbers",
    }
    assert record["dimensions"] == {"batch": {"least": 1, "most": None, "multiple": 1}}
    assert record["proof"]["largest_difference"] < 1e-5 and len(record["proof"]["trials"]) == 3
    model: Any = load_model(trained)
    latents = torch.randn(6, 4)
    assert torch.allclose(program(latents=latents), model.decode(latents), atol=1e-5)


def test_onnx(aigc, trained, folder):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    done = aigc("export", trained, "--format", "onnx", "--graph", "decode")
    assert done.code == 0 and "onnxruntime" in done.out
    session, latents = onnxruntime.InferenceSession("model.onnx"), torch.randn(6, 4)
    model: Any = load_model(trained)
    (images,) = session.run(None, {"latents": latents.numpy()})
    assert torch.allclose(torch.from_numpy(images), model.decode(latents), atol=1e-5)


def test_a_classifier_in_8_bits(aigc, judge, folder):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    # So small a network need not be smaller or faster in 8 bits; the speed of a shared machine is no test.
    quantize = ("export", judge, "--format", "onnx", "--graph", "classify", "--quantize", "int8")
    refused = aigc(*quantize, "--floor", "100.5", "--out", "refused.onnx")
    assert refused.code == 2 and "below the floor of 100.50" in refused.err and "--force" in refused.err
    assert len(refused.lines) == 2 and not list(folder.glob("*.onnx")) and not list(folder.glob("*.json"))

    done = aigc(*quantize, "--force", "--out", "small.onnx")
    assert done.code == 0 and "accuracy in %" in done.out
    import onnx

    weights = [part for part in onnx.load("small.onnx").graph.initializer if part.data_type == onnx.TensorProto.INT8]
    layers = [onnx.numpy_helper.to_array(part) for part in weights]
    assert max(abs(layer.astype(int)).max() for layer in layers) <= 64  # sums of 16 bits do not overflow
    session = onnxruntime.InferenceSession("small.onnx")
    card = json.loads(session.get_modelmeta().custom_metadata_map["aigc"])["quantization"]
    assert card == json.loads(Path("small_card.json").read_text())
    assert card["quantization"] == "int8" and card["calibration"] > 0 and card["score"]["name"] == "accuracy in %"
    assert card["score"]["after"] >= card["score"]["before"] - 0.5 > 80

    data = Digits(size=8)
    data.setup("validate")
    images = torch.cat([batch["image"] for batch in data.val_dataloader()])
    model: Any = load_model(judge)
    (logits,) = session.run(None, {"images": images.numpy()})
    expected = model.classify(images)
    same = (torch.from_numpy(logits).argmax(1) == expected.argmax(1)).float().mean()
    assert same > 0.97 and not torch.equal(torch.from_numpy(logits), expected)


def test_a_pruned_model_is_refused_or_written_with_a_card(aigc, trained, judge, folder):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    prune = ("export", trained, "--format", "onnx", "--graph", "decode", "--prune", "0.5")
    unjudged = aigc(*prune)
    assert unjudged.code == 2 and "--judge" in unjudged.err
    refused = aigc(*prune, "--judge", judge, "--floor", "0")
    assert refused.code == 2 and "above the most of 0.0000" in refused.err and not list(folder.glob("*.onnx"))
    done = aigc(*prune, "--judge", judge, "--force", "--out", "small.onnx")
    assert done.code == 0 and "Frechet distance" in done.out
    about = json.loads(onnxruntime.InferenceSession("small.onnx").get_modelmeta().custom_metadata_map["aigc"])
    card, model = about["comparison"], load_model(trained)
    assert card == json.loads(Path("small_card.json").read_text()) and card["quantization"] == "pruned"
    assert card["after"]["bytes"] < card["before"]["bytes"] and card["score"]["lower"]
    assert about["config"]["width"] == max(1, model.provenance()["config"]["width"] // 2)


def test_a_pruned_classifier_has_features_of_another_size(aigc, judge, folder):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    done = aigc("export", judge, "--format", "onnx", "--graph", "embed", "--prune", "0.5", "--force")
    assert done.code == 2 and "its results have another size than before" in done.err
    assert not list(folder.glob("*.onnx"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "pt2", "--graph", "decod"), "decode"),
        (("--graph", "decode"), "--format"),
        (("--out", "a.onnx"), "--format onnx"),
        (("--format", "torchscript"), "pt2"),
        (("--quantize", "int8"), "--format onnx"),
        (("--format", "onnx", "--floor", "40"), "--floor"),
        (("--format", "onnx", "--force"), "--force"),
        (("--format", "onnx", "--prune", "1"), "--prune is 1"),
        (("--format", "onnx", "--judge", "inception"), "--prune SHARE"),
        (("--format", "onnx", "--prune", "0.5", "--quantize", "int8"), "--quantize and --prune"),
        (("--prune", "0.5"), "--format onnx"),
    ],
)
def test_mistakes(options, said, aigc, trained, folder):
    done = aigc("export", trained, *options)
    assert done.code == 2 and said in done.err and len(done.lines) <= 4
    assert not list(folder.glob("*.onnx")) and not list(folder.glob("*.pt2"))
