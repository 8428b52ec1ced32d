"""The watermark: its code, its attacks, and the commands that write and read it."""

import json

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.cli import main
from aigc_lightning.core.io.film import write_film
from aigc_lightning.inference.trust.watermark import PictureMarker
from aigc_lightning.testing import ModelConformance
from PIL import Image

from aigc_trust import attacks
from aigc_trust.code import FALSE_POSITIVE_RATE, decode, encode, num_coded
from aigc_trust.models.watermark import Watermark


class TestWatermark(ModelConformance):
    model = "watermark"
    settings = ("data.batch_size=4",)


@pytest.mark.parametrize("count", [16, 64])
def test_payloads_come_back_through_flipped_bits(count):
    payload = (1 << count) - 12345
    word = encode(payload, count).astype(float)
    assert word.shape == (num_coded(count),) and set(word) == {-1, 1}
    reading = decode(word, count)
    assert reading.payload == payload and reading.confidence == 1
    word[[3, 20, 41, 60]] *= -1
    reading = decode(word, count)
    assert reading.payload == payload and reading.confidence == pytest.approx(1 - 4 / len(word))


def test_noise_and_constants_are_no_payload():
    random = np.random.RandomState(0)
    found = sum(decode(random.randn(64), 16).payload is not None for _ in range(1000))
    assert found <= 5 and FALSE_POSITIVE_RATE < 1e-3  # 5 and fewer: probability of 0.999 at this rate
    assert decode(np.ones(64), 16).payload is None and decode(-np.ones(64), 16).payload is None


@pytest.mark.parametrize("attack", attacks.TRAINING)
def test_gradients_pass_through_attacks(attack):
    images = (torch.rand(2, 3, 32, 32) - 0.5).requires_grad_()
    result = attack(images, 0.7, torch.randn(2, 3, 32, 32))
    assert result.shape == images.shape and (result - images).abs().mean() < 0.5
    result.sum().backward()
    assert images.grad.abs().sum() > 0


def test_a_new_one_already_writes_most_bits_at_its_psnr():
    torch.manual_seed(0)
    model = Watermark(ImageSpec(3, 32, 32), psnr=38.0)
    images = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), (80, 48), mode="bilinear") - 0.5
    marked = model.mark(images, 0xBEEF)
    error = (marked - images).square().mean(dim=(1, 2, 3)) / 4
    assert torch.allclose(-10 * error.log10(), torch.tensor(38.0), atol=1e-3)
    agreement = (model.logits(marked) * torch.from_numpy(encode(0xBEEF, 16)) > 0).float().mean()
    assert agreement > 0.9
    assert model.mark(images, 1).equal(model.mark(images, 1))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UserError, match="32 pixels"):
        Watermark(ImageSpec(3, 16, 16))
    with pytest.raises(UserError, match="payload_bits is 8"):
        Watermark(ImageSpec(3, 32, 32), payload_bits=8)
    model = Watermark(ImageSpec(3, 32, 32))
    with pytest.raises(UserError, match="20x40"):
        model.mark(torch.zeros(1, 3, 40, 20), 1)
    with pytest.raises(UserError, match="more than 16 bits"):
        model.mark(torch.zeros(1, 3, 40, 40), 1 << 16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mark")
    options = ["--data", "photos", "--data.size", "32", "--data.num_train", "32", "--data.batch_size", "16"]
    steps = ["--trainer.max_steps", "2", "--trainer.precision", "32-true", "--run", str(folder / "run")]
    assert main(["fit", "--model", "watermark", *options, *steps]) == 0
    return str(folder / "run")


def test_edited_pictures_are_marked_and_verified(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIGC_SIGN", raising=False)
    (tmp_path / "in").mkdir()
    smooth = Image.fromarray(np.random.RandomState(0).randint(80, 160, (4, 4, 4), np.uint8)).convert("RGBA")
    smooth.resize((96, 64)).save("in/colour.png")
    Image.new("L", (64, 64), 90).save("in/grey.png")
    assert main(["edit", "--ops", "rotate=90", "in", "--watermark", run]) == 1  # the grey one is not marked
    out, err = capsys.readouterr()
    assert "Without a watermark: " in err and "grey.png" in err and "colour.png" not in err
    marked, plain = Image.open("edited/colour.png"), Image.open("in/colour.png").rotate(-90, expand=True)
    assert marked.mode == "RGBA" and not np.array_equal(marked, plain)
    assert np.array_equal(marked.getchannel("A"), plain.getchannel("A"))
    assert np.array_equal(Image.open("edited/grey.png"), Image.open("in/grey.png"))
    assert main(["verify", "edited/colour.png", "in", "--watermark", run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in found] == ["edited/colour.png", "in/colour.png", "in/grey.png"]
    assert found[0]["record"]["watermark"]["payload"] == "0000"
    assert found[0]["watermark"]["confidence"] > found[1]["watermark"]["confidence"]
    assert found[1]["watermark"]["payload"] is None and found[2]["watermark"]["payload"] is None


@pytest.fixture
def film():
    """Return frames of 64x64 pixels, each of another grey level."""
    smooth = np.random.RandomState(0).randint(80, 160, (4, 4), np.uint8)
    return [Image.fromarray(smooth + 2 * number).resize((64, 64), Image.Resampling.BICUBIC) for number in range(5)]


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_films_are_read_frame_by_frame(film, tmp_path, monkeypatch, capsys, suffix):
    pytest.importorskip("av")
    model = Watermark(ImageSpec(1, 32, 32), psnr=30.0)
    marker = object.__new__(PictureMarker)
    marker._model = model
    text = {"aigc": json.dumps({"sha256": "beef" + 12 * "0"})}
    write_film([marker.frame(frame, text) for frame in film], tmp_path / f"marked.{suffix}", "")
    write_film(film, tmp_path / f"plain.{suffix}", "")
    found, plain = (marker.read(tmp_path / f"{name}.{suffix}") for name in ("marked", "plain"))
    assert found.payload == "beef" and found.frames == 5
    assert plain.payload is None and plain.frames == 5 and plain.confidence < found.confidence


def test_films_that_cannot_be_read_are_not_called_unmarked(run, tmp_path, capsys):
    (tmp_path / "damaged.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    (tmp_path / "text.png").write_bytes(b"text")
    assert main(["verify", str(tmp_path), "--watermark", run]) == 0
    assert capsys.readouterr().out.count("watermark: not read: ") == 2


def test_only_watermarks_mark():
    assert main(["edit", "--ops", "rotate=90", "none.png", "--watermark", "no/run"]) == 2
