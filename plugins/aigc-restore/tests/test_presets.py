"""Every preset can be built, with the data that it names."""

import pytest
import torch
from aigc_lightning import plugins
from aigc_lightning.config.data_section import build_data
from aigc_lightning.yaml_file import read_yaml

from aigc_restore.models.sr import SuperResolution

PRESETS = [
    "sr_photos_x2",
    "sr_photos_x4",
    "sr_gan_photos_x4",
    "edsr_div2k_x2_gpu",
    "rcan_div2k_x4_gpu",
    "swinir_df2k_x4_gpu",
    "real_esrgan_df2k_x4_gpu",
]


@pytest.mark.parametrize("name", PRESETS)
def test_models_of_presets_fit_their_data(name):
    config = read_yaml(plugins.find_preset(name))
    data = build_data(plugins.find("data", "degraded_images").class_path, config["data"]["init_args"])
    with torch.device("meta"):
        model = SuperResolution(data.spec, **config["model"]["init_args"])
    assert f"x{model.scale}" in name
    steps = config["model"]["init_args"]["schedule_steps"]
    assert steps == config["trainer"]["max_steps"]
