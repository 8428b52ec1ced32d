"""The presets with the papers' settings build the papers' networks."""

from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, plugins
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.yaml_file import read_yaml

from aigc_autoregressive.models import token_model

IMAGENET = ImageSpec(3, 256, 256, class_names=tuple(map(str, range(1000))))
#: Parameters of what is trained or averaged, without discriminators and tokenizers.
PARAMETERS = {
    "image_gpt_imagenet256_gpu": 110_888_448,  # LlamaGen-B
    "maskgit_imagenet256_gpu": 172_457_193,
    "pixelcnn_cifar10_gpu": 53_659_080,
    "var_imagenet256_gpu": 310_283_520,  # VAR-d16
    "vqgan_1024_imagenet256_gpu": 72_141_699,
    "vqgan_imagenet256_gpu": 71_883_403,  # LlamaGen's VQ-16
}


def config_of(preset: str) -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(plugins.find_preset(preset))
    return found


def built(preset: str, spec: ImageSpec) -> ImageModel:
    model = config_of(preset)["model"]
    with torch.device("meta"):
        made: ImageModel = plugins.find("model", model["class_path"]).load()(spec, **model["init_args"])
    return made


@pytest.mark.parametrize("preset", PARAMETERS)
def test_networks_have_the_papers_numbers_of_parameters(preset, monkeypatch):
    monkeypatch.setattr(
        token_model, "embedded", lambda owner, name, run: built(run.removeprefix("runs/"), owner.spec).eval()
    )
    model = built(preset, ImageSpec(3, 32, 32) if "cifar10" in preset else IMAGENET)
    (network,) = model.averaged_networks
    assert sum(parameter.numel() for parameter in getattr(model, network).parameters()) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", [*PARAMETERS, "vqgan_multi_scale_imagenet256_gpu"])
def test_schedules_end_with_the_training(preset):
    config = config_of(preset)
    steps = config["model"]["init_args"].get("schedule_steps")
    assert steps in (None, config["trainer"]["max_steps"])
    assert plugins.find("data", config["data"]["class_path"]).is_builtin
