"""Datasets that a first stage encodes once: `aigc data encode` and `EncodedImages`."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from aigc_lightning.cli import main
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.component import Component, load_component
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data import Digits, EncodedImages, Shapes
from aigc_lightning.data.latents import encoding
from aigc_lightning.data.latents.encoding import encode_data
from aigc_lightning.data.latents.format import PARTS, piece_path, read_description, read_piece, write_piece
from aigc_lightning.errors import UserError
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.vae import VAE


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "stage.safetensors"
    torch.manual_seed(0)
    save_weights(Autoencoder(ImageSpec(1, 16, 16), width=2, num_halvings=2, code_channels=3), path, {})
    return path


@pytest.fixture(scope="module")
def encoded(first_stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoded") / "digits"
    assert main(["data", "encode", str(first_stage), "digits", str(folder), "--data.size=16"]) == 0
    return folder


def test_latents_are_what_the_first_stage_makes_of_the_images(first_stage, encoded):
    data, plain = EncodedImages(str(encoded)), Digits(size=16)
    assert data.spec == plain.spec and data.first_stage == load_component(first_stage).sha256
    keys = [1100, 3, 1023, 1024]  # of both pieces
    found, images = data.samples(data.train_source()).read(keys), plain.samples(plain.train_source()).read(keys)
    model = load_component(first_stage).model
    assert isinstance(model, Autoencoder)
    assert found["latent"].shape == (4, 3, 4, 4)
    assert torch.allclose(found["latent"], model.encode(images["image"]), atol=1e-5)
    assert torch.equal(found["label"], images["label"]) and "image" not in found
    held_out = data.samples(data.val_source()).read([0, 5])
    assert torch.equal(held_out["image"], plain.samples(plain.val_source()).read([0, 5])["image"])


class Rows(ImageModel):
    """A tokenizer whose tokens are the brightness of rows."""

    num_codes = 200

    def encode(self, images: Tensor) -> Tensor:
        return images.mean(3, keepdim=True)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.expand(-1, 3, -1, self.spec.width)

    def tokens(self, images: Tensor) -> Tensor:
        return ((self.encode(images).mean(1).flatten(1) + 1) / 2 * (self.num_codes - 1)).round().long()

    def from_tokens(self, tokens: Tensor) -> Tensor:
        return self.decode(tokens[:, None, :, None] / (self.num_codes - 1) * 2 - 1)


@pytest.mark.parametrize(
    ("num_codes", "dtype"),
    [(200, torch.uint8), (256, torch.uint8), (257, torch.int16), (32768, torch.int16), (32769, torch.int32)],
)
def test_tokens_are_kept_in_the_smallest_type(num_codes, dtype, tmp_path):
    model = Rows(ImageSpec(3, 16, 16))
    model.num_codes = num_codes
    plain = Shapes(size=16, num_train=3, num_val=2)
    encode_data(Component(model, {}, "a" * 64), plain, "shapes", tmp_path / "out")
    data = EncodedImages(str(tmp_path / "out"))
    assert data.kind == "tokens"
    assert read_piece(piece_path(tmp_path / "out", "train", 0), 3).tensors["tokens"].dtype == dtype
    found, images = (part.samples(part.train_source()).read([2, 0]) for part in (data, plain))
    assert found["tokens"].dtype == torch.int64
    assert torch.equal(found["tokens"], model.tokens(images["image"])) and "image" not in found


def test_latents_of_a_tokenizer_are_kept_on_request_and_never_beside_tokens(tmp_path):
    component, data = Component(Rows(ImageSpec(3, 16, 16)), {}, "a" * 64), Shapes(size=16, num_train=3, num_val=2)
    encode_data(component, data, "shapes", tmp_path / "out", latents=True)
    found = EncodedImages(str(tmp_path / "out"))
    assert found.kind == "latent" and found.training_batch(2)["latent"].shape == (2, 3, 16, 1)
    with pytest.raises(UserError, match="as latent of the network aaaaaaaaaaaa"):
        encode_data(component, data, "shapes", tmp_path / "out")


def test_captions_are_kept(first_stage, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "vae.safetensors"
    save_weights(VAE(ImageSpec(3, 16, 16), latent_size=5, width=4), path, {})
    options = ["--data.size=16", "--data.num_train=3", "--data.num_val=2"]
    assert main(["data", "encode", str(path), "shapes", str(tmp_path / "out"), *options]) == 0
    batch = EncodedImages(str(tmp_path / "out")).training_batch(3)
    assert batch["latent"].shape == (3, 5) and all(text.startswith("a ") for text in batch["caption"])


def test_an_interrupted_call_is_continued(first_stage, encoded, tmp_path, monkeypatch):
    folder, written = tmp_path / "digits", write_piece
    made: list[Path] = []

    def write(path, piece):
        if made:
            raise KeyboardInterrupt
        made.append(path)
        written(path, piece)

    arguments = ["data", "encode", str(first_stage), "digits", str(folder), "--data.size=16"]
    monkeypatch.setattr(encoding, "write_piece", write)
    assert main(arguments) == 130
    with pytest.raises(UserError, match="not complete"):
        EncodedImages(str(folder))
    (folder / "train-000001.safetensors").write_bytes(b"broken")
    before = made[0].stat().st_mtime_ns
    monkeypatch.setattr(encoding, "write_piece", written)
    assert main(arguments) == 0
    assert made[0].stat().st_mtime_ns == before
    files = sorted(path.name for path in encoded.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == files
    assert all((folder / name).read_bytes() == (encoded / name).read_bytes() for name in files)


def test_damage_is_found(encoded, tmp_path):
    for path in encoded.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    piece = tmp_path / "train-000000.safetensors"
    content = bytearray(piece.read_bytes())
    content[-5] ^= 1
    piece.write_bytes(content)
    data = EncodedImages(str(tmp_path))
    with pytest.raises(UserError, match="damaged"):
        data.samples(data.train_source()).read([0])


def test_folders_of_images_are_encoded_at_the_size_of_the_first_stage(first_stage, tmp_path):
    from PIL import Image

    for number in range(12):
        path = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 30), number * 20).save(path)
    assert main(["data", "encode", str(first_stage), str(tmp_path / "images"), str(tmp_path / "out")]) == 0
    found = read_description(tmp_path / "out")
    assert found is not None and found.spec.shape == (1, 16, 16) and found.spec.num_classes == 2
    assert sum(found.counts[part] for part in PARTS) == 12


def test_wrong_calls_are_refused(first_stage, encoded, tmp_path, capsys):
    cnn = tmp_path / "cnn.safetensors"
    save_weights(CNN(ImageSpec(1, 16, 16, ("a", "b"))), cnn, {})
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("mine")
    for run, source, target, said in (
        (cnn, "digits", tmp_path / "a", "does not encode images"),
        (first_stage, "shapes", tmp_path / "b", "Use equal channels"),
        (first_stage, "digits", other, "is not empty"),
        (first_stage, "digits", encoded, "Give another folder"),  # of 32x32 pixels
    ):
        assert main(["data", "encode", str(run), source, str(target)]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="holds no encoded images"):
        EncodedImages(str(tmp_path))
