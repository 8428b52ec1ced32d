"""Models that are built on the networks of other runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.component import check_encoder, embedded, load_component, refer
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.rebuilding import recorded_components
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.vae import VAE
from aigc_lightning.testing import NoiseImages

SPEC = ImageSpec(1, 8, 8)


class OnCodes(ImageModel):
    """Moves its bias to the mean code of an autoencoder."""

    def __init__(self, spec: ImageSpec, first_stage: str, judged_by: str = "") -> None:
        super().__init__(spec)
        self.judged_by = judged_by
        self.first_stage = embedded(self, "first_stage", first_stage)
        self.bias = torch.nn.Parameter(torch.zeros(4))

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.judged_by:
            refer(self, "judged_by", self.judged_by, load_component(self.judged_by).sha256)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert not self.first_stage.training
        assert isinstance(self.first_stage, VAE)
        codes = self.first_stage.embed(batch["image"])
        loss: Tensor = (codes.mean(dim=0) - self.bias).square().sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=0.1)


def autoencoder(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_weights(VAE(SPEC, latent_size=4, width=4), path, {})
    return path


def fit(model: ImageModel, folder: Path, steps: int, resume: Path | None = None) -> Path:
    data = NoiseImages(1, 8, 8, num_images=32, batch_size=8)
    trainer = silent_trainer(max_steps=steps, default_root_dir=folder)
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "end.ckpt")
    return folder / "end.ckpt"


def test_an_embedded_component_is_trained_with_and_stays_as_it_is(tmp_path):
    path = autoencoder(tmp_path / "vae.safetensors")
    model = OnCodes(SPEC, str(path))
    before = {name: value.clone() for name, value in model.first_stage.state_dict().items()}
    checkpoint = torch.load(fit(model, tmp_path, 5), weights_only=True)
    assert model.bias.abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.first_stage.state_dict().items())
    found = checkpoint[RECORD_KEY]["components"]["first_stage"]
    assert found["address"] == str(path) and found["sha256"] == load_component(path).sha256
    assert found["record"]["class_path"].endswith("VAE")
    assert any(name.startswith("first_stage.") for name in checkpoint["state_dict"])


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_a_file_stands_alone(kind, tmp_path):
    path = autoencoder(tmp_path / "vae.safetensors")
    model = OnCodes(SPEC, str(path))
    file = fit(model, tmp_path, 2)
    if kind == "export":
        file = tmp_path / "end.safetensors"
        save_weights(model, file, {})
    path.unlink()
    again = OnCodes.load_from_checkpoint(file)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    again.train()
    assert again.training and not any(module.training for module in again.first_stage.modules())
    assert not any(parameter.requires_grad for parameter in again.first_stage.parameters())
    assert again.components == model.components
    with pytest.raises(UserError, match="the checkpoint was made with"):
        OnCodes.load_from_checkpoint(file, first_stage="another")


def test_a_resumed_model_takes_it_from_the_checkpoint(tmp_path):
    path = autoencoder(tmp_path / "vae.safetensors")
    whole = fit(OnCodes(SPEC, str(path)), tmp_path / "whole", 6)
    half = fit(OnCodes(SPEC, str(path)), tmp_path / "half", 3)
    path.unlink()
    with recorded_components(torch.load(half, weights_only=True)[RECORD_KEY]):
        model = OnCodes(SPEC, str(path))
    resumed = fit(model, tmp_path / "half", 6, half)
    one, other = (torch.load(file, weights_only=True)["state_dict"] for file in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_does_not_resume_with_other_weights_of_what_it_refers_to(tmp_path):
    path, judge = autoencoder(tmp_path / "vae.safetensors"), autoencoder(tmp_path / "judge.safetensors")
    file = fit(OnCodes(SPEC, str(path), str(judge)), tmp_path, 2)
    assert "record" not in torch.load(file, weights_only=True)[RECORD_KEY]["components"]["judged_by"]
    fit(OnCodes(SPEC, str(path), str(judge)), tmp_path / "same", 3, file)
    autoencoder(judge, seed=1)
    with pytest.raises(UserError, match="was trained with another judged_by"):
        fit(OnCodes(SPEC, str(path), str(judge)), tmp_path / "other", 3, file)
    judge.unlink()
    OnCodes.load_from_checkpoint(file)  # inference does not need it


@pytest.mark.parametrize("damage", ["class", "structure"])
def test_the_record_of_a_component_is_checked_like_any_other(damage, tmp_path):
    file = fit(OnCodes(SPEC, str(autoencoder(tmp_path / "vae.safetensors"))), tmp_path, 1)
    checkpoint = torch.load(file, weights_only=True)
    record = checkpoint[RECORD_KEY]["components"]["first_stage"]["record"]
    if damage == "class":
        record["class_path"] = "subprocess.Popen"
    else:
        record["spec"] = "8x8"
    torch.save(checkpoint, file)
    with pytest.raises(UserError, match="no installed package provides" if damage == "class" else "in its record"):
        OnCodes.load_from_checkpoint(file)


@pytest.mark.parametrize("component", ["first_stage", "another"])
def test_data_that_another_network_encoded_are_refused(component):
    def owner(encoder: str | None, kind: str = "latent") -> Any:
        data = SimpleNamespace() if encoder is None else SimpleNamespace(first_stage=encoder, kind=kind)
        components = {"first_stage": {"sha256": "a" * 64}}
        return SimpleNamespace(
            components=components, encoded_keys=("latent",), trainer=SimpleNamespace(datamodule=data)
        )

    check_encoder(owner(None), component)
    check_encoder(owner("a" * 64), component)
    if component == "another":
        check_encoder(owner("b" * 64), component)
    else:
        with pytest.raises(UserError, match=r"bbbbbbbbbbbb, but model\.first_stage is aaaaaaaaaaaa"):
            check_encoder(owner("b" * 64), component)
        with pytest.raises(UserError, match="encoded as tokens, but a SimpleNamespace takes latent"):
            check_encoder(owner("a" * 64, "tokens"), component)
