"""`adain`: its decoder, its statistics, its options and its data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.cli import main
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.testing import DataConformance, ModelConformance
from PIL import Image
from torch.nn import functional

from aigc_style.adain import AdaIN
from aigc_style.bands import band_palettes, match_bands, mixed_palettes
from aigc_style.networks.decoder import Decoder
from aigc_style.statistics import moments

SPEC = ImageSpec(3, 32, 32, task="unpaired")


class TestAdaIN(ModelConformance):
    model = "adain"
    settings = ("model.width=4", "data.size=32")


class TestPhotosAndStyles(DataConformance):
    data = "photos_and_styles"
    settings = ("data.size=32", "data.num_train=8")


def made(**options: Any) -> AdaIN:
    return AdaIN(SPEC, **{"width": 4, **options}).eval()


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def test_the_decoder_has_the_parameters_of_the_paper() -> None:
    assert sum(parameter.numel() for parameter in Decoder(512).parameters()) == 3_505_219


def test_what_is_decoded_has_the_statistics_of_the_style() -> None:
    model = made()
    content, style = model._maps(images(0, 2, 3, 40, 56)), model._maps(images(1, 2, 3, 32, 32))
    assert [maps.shape[1] for maps in content] == [16, 24, 40, 112]
    for found, wanted in zip(model._styled(content, style), style, strict=True):
        for one, other in zip(moments(found), moments(wanted), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)


def test_edits_have_the_contrast_and_the_colours_of_the_style_at_each_scale() -> None:
    photo, style = images(0, 1, 3, 64, 48), images(1, 1, 3, 40, 56)
    photo = functional.avg_pool2d(photo, 5, 1, 2)  # smooth, unlike the style
    wanted, before = band_palettes(style), band_palettes(photo)
    assert len(wanted.mean) == 6
    found = band_palettes(match_bands(photo, wanted)).covariance
    errors = [(one - wanted.covariance).flatten(1).norm(dim=1) for one in (found, before.covariance)]
    assert (errors[0][:4] < 0.4 * errors[1][:4]).all()
    torch.testing.assert_close(found[-1], wanted.covariance[-1], atol=1e-3, rtol=0)
    torch.testing.assert_close(match_bands(style, wanted), style, atol=5e-3, rtol=0)
    both = mixed_palettes([before, wanted], [0.25, 0.75])
    torch.testing.assert_close(both.covariance, 0.25 * before.covariance + 0.75 * wanted.covariance)


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (33, 47)])
def test_any_size_is_kept(size: tuple[int, int]) -> None:
    found = made().edit(images(0, 2, 3, *size), images(1, 2, 3, 32, 32))
    assert found.shape == (2, 3, *size) and found.abs().max() <= 1


def test_strength_leads_from_the_image_to_the_style() -> None:
    model, photo, style = made(), images(0, 1, 3, 32, 32), images(1, 1, 3, 32, 32)
    none, full = model.edit(photo, style, strength=0.0), model.edit(photo, style)
    torch.testing.assert_close(none, model.edit(photo, photo), atol=1e-3, rtol=0)
    assert not torch.allclose(none, full, atol=1e-4)
    assert not torch.allclose(model.edit(photo, style, strength=0.5), full, atol=1e-5)
    with pytest.raises(UserError, match="strength is 2"):
        model.edit(photo, style, strength=2.0)


def test_several_styles_are_mixed() -> None:
    model, photo = made(), images(0, 1, 3, 32, 32)
    one, other = images(1, 1, 3, 32, 32), images(2, 1, 3, 32, 32)
    both = torch.stack([one, other], dim=1)
    torch.testing.assert_close(model.edit(photo, both, weights="1,0"), model.edit(photo, one))
    torch.testing.assert_close(model.edit(photo, torch.stack([one, one], dim=1)), model.edit(photo, one))
    assert not torch.allclose(model.edit(photo, both), model.edit(photo, one), atol=1e-5)
    for weights in ("1", "1,a", "0,0", "-1,2"):
        with pytest.raises(UserError, match="weights is"):
            model.edit(photo, both, weights=weights)


def test_pictures_are_edited_by_example(
    picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_weights(made(), tmp_path / "adain.safetensors", {})
    photo, one, other = picture("photo.png", (70, 50)), picture("one.png", seed=1), picture("other.png", seed=2)
    both = ["edit", "adain.safetensors", str(photo), "--reference", str(one), "--reference", str(other)]
    assert main([*both, "--strength", "0.7", "--weights", "3,1", "--out", "both"]) == 0
    with Image.open("both/photo.png") as result:
        assert result.size == (70, 50)
        record = json.loads(result.info["aigc"])
    assert record["options"] == {"strength": 0.7, "weights": "3,1"}
    assert [Path(found["file"]).name for found in record["reference"]] == ["one.png", "other.png"]
    assert main([*both, "--weights", "1", "--out", "wrong"]) == 1
    assert "weights is '1'" in capsys.readouterr().err
    assert main([*both[:3], "--out", "without"]) == 2
    assert "needs --reference" in capsys.readouterr().err


def test_the_encoder_can_be_a_classifier_and_stays_as_it_is(network: str) -> None:
    model = made(encoder=network)
    model.train()
    assert not any(module.training for module in model.encoder.modules()) and model.components["encoder"]["sha256"]
    model.losses(images(0, 2, 3, 32, 32), images(1, 2, 3, 32, 32)).total(0.1).sum().backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())


def test_without_skips_the_decoder_sees_the_coarse_maps_alone() -> None:
    model = made(skips=False)
    assert model.decoder.middle[0].in_channels == 16 and made().decoder.middle[0].in_channels == 16 + 24
    assert model.edit(images(0, 1, 3, 24, 24), images(1, 1, 3, 32, 32)).shape == (1, 3, 24, 24)


def test_single_images_are_refused() -> None:
    with pytest.raises(UserError, match="photographs and styles"):
        AdaIN(ImageSpec(3, 32, 32))
