"""Every preset trains, on little."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from aigc_lightning import plugins
from aigc_lightning.cli import main

PRESETS = {name: path for name, owner, path in plugins.presets() if owner == "aigc-stylegan"}
#: Channels, height and width of the images that a preset is for, and classes.
IMAGES = {"digits": (1, 32, 10), "fashion": (1, 32, 10), "cifar10": (3, 32, 10), "flowers64": (3, 64, 0)}
IMAGES["ffhq256"] = (3, 256, 0)
TINY = {"stylegan2": {"style_size": 8, "mapping_layers": 1}, "progan": {"fade_images": 4, "stable_images": 4}}


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(PRESETS[name].read_text())
    return config


def test_presets_are_found() -> None:
    assert set(PRESETS) == {
        *("progan_digits", "stylegan2_digits", "stylegan2_fashion", "stylegan2_flowers64"),
        *("stylegan2_cifar10_gpu", "stylegan2_ffhq256_gpu"),
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All of its options exist, those of the data, too."""
    first = PRESETS[name].read_text().splitlines()[0]
    assert first.startswith("# ") and len(first) <= 125
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", name, "--print_config"])
    assert not ended.value.code
    assert read(name)["model"]["class_path"] in capsys.readouterr().out


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small networks, on noise of the size of its images."""
    monkeypatch.chdir(tmp_path)
    config, (channels, size, num_classes) = read(name), IMAGES[name.split("_")[1]]
    model = config["model"]["class_path"]
    config["model"]["init_args"] |= {"latent_size": 8, "channel_base": 4 * size, "channel_max": 8, **TINY[model]}
    images = {"channels": channels, "height": size, "width": size, "num_classes": num_classes, "batch_size": 4}
    config["data"] = {"class_path": "aigc_lightning.testing.noise.NoiseImages", "init_args": images}
    config["trainer"] |= {"max_steps": 1, "limit_val_batches": 0, "accelerator": "cpu"}
    config["grids"]["num"] = 2
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "tiny.yaml", "--run", "run"]) == 0
    weights = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(bool(weight.isfinite().all()) for weight in weights.values())
