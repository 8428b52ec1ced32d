"""Training from tokens that `aigc data encode` has stored equals training from the images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.cli import main
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.data import EncodedImages

from aigc_autoregressive.models.vqgan import VQGANModel

SPEC = ImageSpec(1, 8, 8, class_names=tuple("0123456789"))
TOKENIZERS: dict[str, dict[str, Any]] = {
    "vq": {"num_codes": 300, "width": 4},
    "multi_scale": {"num_codes": 40, "width": 4, "scales": [[1, 1], [2, 2], [4, 4]]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer for each name, and the digits in its tokens."""
    folder = tmp_path_factory.mktemp("caches")
    for name, options in TOKENIZERS.items():
        torch.manual_seed(0)
        model = VQGANModel(SPEC, name, options, width=4, latent_channels=4, multipliers=(1, 2))  # type: ignore[arg-type]
        model.configure_model()
        path = folder / f"{name}.safetensors"
        save_weights(model, path, {})
        assert main(["data", "encode", str(path), "digits", str(folder / name), "--data.size=8"]) == 0
    return folder


def fit(folder: Path, kind: str, tokenizer: str, data: list[str], run: str) -> int:
    sizes = ["--model.width=16", "--model.depth=1", "--model.num_heads=2", "--model.conditions=labels"]
    steps = ["--trainer.max_steps=3", "--trainer.log_every_n_steps=1", "--grids.num=1", "--trainer.accelerator=cpu"]
    model = ["--model", kind, "--model.tokenizer", str(folder / f"{tokenizer}.safetensors")]
    return main(["fit", *model, *sizes, *steps, *data, "--data.batch_size=16", "--run", str(folder / run)])


@pytest.mark.parametrize("kind", ["image_gpt", "maskgit", "var"])
def test_losses_are_those_of_encoding_each_batch_to_the_last_bit(folder, kind):
    tokenizer = "multi_scale" if kind == "var" else "vq"
    cached = ["--data", "encoded_images", "--data.root", str(folder / tokenizer)]
    assert fit(folder, kind, tokenizer, ["--data=digits", "--data.size=8"], f"{kind}-images") == 0
    assert fit(folder, kind, tokenizer, cached, f"{kind}-tokens") == 0
    by_images, by_tokens = ((folder / f"{kind}-{data}" / "metrics.csv").read_text() for data in ("images", "tokens"))
    assert by_images == by_tokens and len(by_images.splitlines()) == 4


def test_tokens_take_as_few_bytes_as_their_number_of_codes_allows(folder):
    assert EncodedImages(str(folder / "vq")).training_batch(2)["tokens"].shape == (2, 16)
    assert EncodedImages(str(folder / "multi_scale")).training_batch(2)["tokens"].shape == (2, 21)
    two_bytes, one_byte = ((folder / name / "train-000000.safetensors").stat().st_size for name in TOKENIZERS)
    assert 1024 * 16 * 2 < two_bytes < 1024 * (16 * 2 + 10) and 1024 * 21 < one_byte < 1024 * (21 + 10)


def test_data_of_another_tokenizer_or_of_latents_are_refused(folder, capsys):
    cached = ["--data", "encoded_images", "--data.root"]
    assert fit(folder, "image_gpt", "vq", [*cached, str(folder / "multi_scale")], "refused") == 2
    assert "The data was encoded by the network" in capsys.readouterr().err
    latents = [str(folder / "vq.safetensors"), "digits", str(folder / "latents"), "--data.size=8", "--latents"]
    assert main(["data", "encode", *latents]) == 0
    assert fit(folder, "image_gpt", "vq", [*cached, str(folder / "latents")], "refused") == 2
    assert "The data are encoded as latent, but a ImageGPTModel takes tokens." in capsys.readouterr().err
