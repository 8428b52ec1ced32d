import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import timm
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import to_signed
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractors import Extractor, Features, ModelExtractor, find_extractor
from aigc_lightning.evaluation.pretrained import VisionTransformer
from aigc_lightning.models.dcgan import DCGAN

# ---- models of ours


def test_a_classifier_of_ours_gives_its_features_and_logits(cnn, images, tmp_path):
    save_weights(cnn, tmp_path / "cnn.safetensors", {})
    extractor = find_extractor(str(tmp_path / "cnn.safetensors"))
    features, logits = extractor(images)
    torch.testing.assert_close(features, cnn.embed(to_signed(images)))
    torch.testing.assert_close(logits, cnn.classify(to_signed(images)))
    assert (extractor.num_features, extractor.num_classes) == (features.shape[1], 3)
    assert extractor.class_names == ("a", "b", "c") and not extractor.is_standard_fid
    assert extractor(images, with_logits=False).logits is None


def test_a_judge_is_run_once_for_features_and_logits(cnn, images, monkeypatch):
    passes, features = [], cnn.features
    monkeypatch.setattr(cnn, "features", lambda given: passes.append(len(given)) or features(given))
    ModelExtractor(cnn)(images)
    assert passes[1:] == [len(images)]  # the first says how many features there are


def test_other_sizes_and_channels_are_brought_to_the_models_own(cnn):
    extractor = ModelExtractor(cnn)
    flat = torch.tensor([10, 100, 250]).byte().view(3, 1, 1, 1)
    expected = extractor(flat.expand(-1, 1, 16, 16)).features
    for shape in ((3, 16, 16), (3, 40, 25), (1, 7, 9)):
        torch.testing.assert_close(extractor(flat.expand(-1, *shape)).features, expected, atol=1e-3, rtol=1e-3)


def test_the_fingerprint_names_weights_size_and_protocol_and_not_the_file(cnn, tmp_path):
    first = ModelExtractor(cnn)
    save_weights(cnn, tmp_path / "cnn.safetensors", {"note": "another file"})
    assert find_extractor(str(tmp_path / "cnn.safetensors")).fingerprint == first.fingerprint
    assert first.fingerprint == f"cnn sha256:{first.weights_hash[:16]} 1x16x16 clean"
    assert ModelExtractor(cnn, "tf1").fingerprint != first.fingerprint
    with torch.no_grad():
        cnn.head.bias[0] += 1e-6
    assert ModelExtractor(cnn).fingerprint != first.fingerprint


def test_training_a_model_that_holds_an_extractor_leaves_the_extractor_alone(cnn, images):
    """As a sub-module it would be in checkpoints, and `train()` would make its batch norms learn."""
    extractor = ModelExtractor(cnn)
    before = {name: value.clone() for name, value in cnn.state_dict().items()}
    expected = extractor(images).features

    class Holder(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.extractor = extractor
            self.own = torch.nn.Linear(2, 2)

    holder = Holder()
    holder.train()
    assert torch.equal(extractor(images).features, expected)
    assert set(holder.state_dict()) == {"own.weight", "own.bias"} and len(list(holder.modules())) == 2
    assert not any(module.training for module in extractor.network.modules())
    assert not any(parameter.requires_grad for parameter in extractor.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in cnn.state_dict().items())


def test_precision_and_inference_mode_of_the_caller_change_nothing(cnn, images):
    extractor = ModelExtractor(cnn)
    expected = extractor(images).features
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = extractor(images).features
    assert torch.equal(found, expected) and not found.is_inference()


def test_settings_that_trade_digits_for_speed_change_nothing_and_stay(images):
    class Product(Extractor):
        def _describe(self, pixels, with_logits):
            return Features(self.network(pixels.flatten(1)), None)

    torch.manual_seed(0)
    network = torch.nn.Linear(256, 64)
    extractor = Product(network, name="x", weights_hash="0", shape=(1, 16, 16), resize="clean", num_features=64)
    expected = extractor(images).features
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16 on processors that have it
        assert torch.equal(extractor(images).features, expected)
        assert torch.get_float32_matmul_precision() == "medium"
        mkldnn: Any = torch.backends.mkldnn  # its types lack this
        assert mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision(before)
    assert not torch.backends.cudnn.deterministic


def test_what_is_no_extractor_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'inceptoin' is not an extractor[\s\S]*Did you mean inception\?"):
        find_extractor("inceptoin")
    gan = DCGAN(ImageSpec(1, 8, 8), latent_size=4, width=4)
    gan.configure_model()
    save_weights(gan, tmp_path / "gan.safetensors", {})
    with pytest.raises(UserError, match="DCGAN does not embed images"):
        find_extractor(str(tmp_path / "gan.safetensors"))
    with pytest.raises(UserError, match="weights of its own"):
        find_extractor(str(tmp_path / "gan.safetensors"), weights=Path("x"))


# ---- published weights


@pytest.mark.parametrize("name", ["inception", "dinov2", "clip"])
def test_missing_weights_are_told_with_what_to_do_and_what_to_use_instead(name):
    with pytest.raises(UserError, match=rf"`aigc assets fetch {name}`[\s\S]*--path FILE[\s\S]*classifier"):
        find_extractor(name)


@pytest.mark.parametrize(("name", "package"), [("inception", "torch_fidelity"), ("clip", "timm")])
def test_a_missing_package_is_told(name, package, publish, tmp_path, monkeypatch):
    (tmp_path / "weights").write_bytes(b"something")
    publish(name, tmp_path / "weights")
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match="pip install 'aigc-lightning"):
        find_extractor(name, weights=tmp_path / "weights")


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Return a file of torch-fidelity's Inception with random weights."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "nothing.pth")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(folder / "nothing.pth"))
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.slow
def test_inception_is_that_of_torch_fidelity(inception_file, publish):
    publish("inception", inception_file)
    images = torch.randint(256, (3, 3, 40, 50), generator=torch.Generator().manual_seed(0)).byte()
    reference = FeatureExtractorInceptionV3("any", ["2048", "logits_unbiased"], str(inception_file))
    features, logits = reference(images)
    extractor = find_extractor("inception", weights=inception_file)
    found = extractor(images)
    assert features.abs().max() > 0
    torch.testing.assert_close(found.features, features, atol=0, rtol=1e-6)
    torch.testing.assert_close(found.logits, logits, atol=0, rtol=1e-6)
    assert extractor.is_standard_fid and (extractor.num_features, extractor.num_classes) == (2048, 1008)
    clean = find_extractor("inception", resize="clean", weights=inception_file)
    assert not clean.is_standard_fid and clean.fingerprint != extractor.fingerprint
    assert not torch.equal(clean(images).features, features)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "small", "num_outputs"),
    [("dinov2", "vit_small_patch14_dinov2.lvd142m", 0), ("clip", "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 256)],
)
def test_transformers_load_their_file_and_normalise_pixels(name, small, num_outputs, publish, tmp_path, monkeypatch):
    _, _, mean, deviation = VisionTransformer.NETWORKS[name]
    monkeypatch.setitem(VisionTransformer.NETWORKS, name, (small, num_outputs, mean, deviation))
    torch.manual_seed(0)
    reference = timm.create_model(small, num_classes=num_outputs, dynamic_img_size=True).eval()
    weights = reference.state_dict()
    if name == "dinov2":
        weights["mask_token"] = torch.zeros(1, 384)  # the published file has it
    torch.save(weights, tmp_path / "vit.pth")
    publish(name, tmp_path / "vit.pth")
    extractor = find_extractor(name, weights=tmp_path / "vit.pth")
    images = torch.randint(256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(0)).byte()
    normalised = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    with torch.no_grad():
        expected = reference(normalised)
    found = extractor(images)
    torch.testing.assert_close(found.features, expected, atol=1e-4, rtol=1e-3)
    assert found.logits is None and found.features.shape == (2, extractor.num_features)
    assert extractor.name == name and extractor.num_features == (num_outputs or 384)


def test_the_numbers_of_the_published_transformers_are_those_of_timm():
    for architecture, _, mean, deviation in VisionTransformer.NETWORKS.values():
        published = timm.get_pretrained_cfg(architecture)
        assert published is not None
        assert (published.mean, published.std) == (mean, deviation)
