"""The table of what the models of this package export, in its README."""

from pathlib import Path

from aigc_lightning import ImageSpec
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.testing.export_checks import missing_rows

from aigc_diffusion.model import Diffusion

PAGE = Path(__file__).parents[1] / "README.md"


def test_the_table_is_true(tmp_path):
    spec, small = ImageSpec(1, 8, 8), {"network_options": {"width": 8, "multipliers": [1, 1]}}
    save_weights(Autoencoder(spec, width=4, num_halvings=1, code_channels=2), tmp_path / "stage.safetensors", {})
    models = {
        "`diffusion` of pixels": Diffusion(spec, **small),
        "`diffusion` of latents": Diffusion(spec, first_stage=str(tmp_path / "stage.safetensors"), **small),
    }
    for model in models.values():
        model.configure_model()
    assert missing_rows(PAGE.read_text(), models) == []
