"""The table of what the models of this package export, in its README."""

from pathlib import Path

from aigc_lightning import ImageSpec
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.testing.export_checks import missing_rows

from aigc_autoregressive.models.image_gpt import ImageGPTModel
from aigc_autoregressive.models.maskgit import MaskGITModel
from aigc_autoregressive.models.pixelcnn import PixelCNNModel
from aigc_autoregressive.models.pixelrnn import PixelRNNModel
from aigc_autoregressive.models.var import VARModel
from aigc_autoregressive.models.vqgan import VQGANModel

PAGE = Path(__file__).parents[1] / "README.md"


def test_the_table_is_true(tmp_path):
    spec, small = ImageSpec(1, 8, 8, ("a", "b")), {"width": 16, "depth": 1, "num_heads": 2, "conditions": "labels"}
    paths = {}
    for name in ("vq", "multi_scale"):
        options = {"num_codes": 12, "width": 4, **({"scales": [[1, 1], [4, 4]]} if name == "multi_scale" else {})}
        tokenizer = VQGANModel(spec, name, options, width=4, latent_channels=4, multipliers=(1, 2))
        tokenizer.configure_model()
        paths[name] = str(tmp_path / f"{name}.safetensors")
        save_weights(tokenizer, tmp_path / f"{name}.safetensors", {})
    models = {
        "`image_gpt` of pixels": ImageGPTModel(spec, num_levels=5, **small),
        "`image_gpt` of tokens": ImageGPTModel(spec, paths["vq"], **small),
        "`maskgit` of pixels": MaskGITModel(spec, num_levels=5, **small),
        "`maskgit` of tokens": MaskGITModel(spec, paths["vq"], **small),
        "`pixelcnn`": PixelCNNModel(spec, width=8, num_blocks=1, num_components=3, conditions="labels"),
        "`pixelrnn`": PixelRNNModel(spec, width=8, num_layers=1, head_width=16, conditions="labels"),
        "`var`": VARModel(spec, paths["multi_scale"], **small),
        "`vqgan`": tokenizer,
    }
    for model in models.values():
        model.configure_model()
    assert missing_rows(PAGE.read_text(), models) == []
