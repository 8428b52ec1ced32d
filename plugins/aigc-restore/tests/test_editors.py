"""Editors without training: what they compute, what they refuse, and `aigc edit NAME`."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from aigc_lightning import UserError, plugins
from aigc_lightning.core.resampling import enlarged
from PIL import Image

from aigc_restore.editors.filling import Biharmonic, NavierStokes, Spectral, Telea
from aigc_restore.editors.filters import Bilateral, Median, NonLocalMeans, noise_std
from aigc_restore.editors.foreign import ForeignNetwork
from aigc_restore.editors.resizing import Bicubic, Lanczos
from aigc_restore.networks.rrdb import RRDB

CPU = torch.device("cpu")
needs_opencv = pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")
needs_spandrel = pytest.mark.skipif(importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed")
FILLING = [
    Biharmonic,
    Spectral,
    pytest.param(Telea, marks=needs_opencv),
    pytest.param(NavierStokes, marks=needs_opencv),
]


def photo(size: int = 48) -> torch.Tensor:
    from skimage import data

    return torch.from_numpy(data.astronaut()[60 : 60 + size, 200 : 200 + size]).permute(2, 0, 1)[None] / 127.5 - 1


def edit(*arguments: str) -> int:
    return plugins.find("command", "edit").load()(list(arguments))


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("scale", [1, 3])
def test_interpolation_enlarges(scale):
    images = photo(16)
    torch.testing.assert_close(Bicubic(CPU).edit(images, scale=scale), enlarged(images, scale).clamp(-1, 1))
    large = Lanczos(CPU).edit(images, scale=scale)
    assert large.shape[-1] == 16 * scale
    if scale == 1:
        torch.testing.assert_close(large, images)
    assert error(large, Bicubic(CPU).edit(images, scale=scale)) < 0.03


def test_the_median_removes_single_dots():
    images = torch.zeros(1, 3, 9, 9)
    images[..., 4, 4] = 1
    assert Median(CPU).edit(images, size=3).abs().max() == 0
    assert Median(CPU).edit(images, size=1).max() == 1


@pytest.mark.parametrize("kind", [NonLocalMeans, Bilateral, Median])
def test_filters_bring_noisy_images_closer(kind):
    clean = photo()
    noisy = (clean + torch.randn(clean.shape) * 20 / 127.5).clamp(-1, 1)
    assert error(kind(CPU).edit(noisy), clean) < 0.85 * error(noisy, clean)


def test_bilateral_weights_are_those_of_the_paper():
    images = torch.zeros(1, 1, 13, 13)
    images[..., 6, 7] = 0.5
    found = Bilateral(CPU).edit(images, std_space=1.0, std_color=127.5)[0, 0, 6, 6]
    offsets = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]
    space = {place: math.exp(-0.5 * (place[0] ** 2 + place[1] ** 2)) for place in offsets}
    other = space[0, 1] * math.exp(-0.5 * 0.5**2)
    assert float(found) == pytest.approx(0.5 * other / (sum(space.values()) - space[0, 1] + other), abs=1e-6)


def test_the_estimate_of_the_noise_is_right():
    noise = np.random.default_rng(0).normal(0.5, 0.1, (200, 200, 3))
    assert noise_std(noise) == pytest.approx(0.1, rel=0.02)
    assert noise_std(np.linspace(0, 1, 50)[:, None, None] * np.ones((50, 40, 3))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", FILLING)
def test_holes_are_filled_whatever_was_in_them_and_the_rest_stays(kind):
    images = photo().repeat(2, 1, 1, 1)
    masks = torch.zeros(2, 1, 48, 48)
    masks[0, :, 10:16, 20:30] = 1
    other = torch.where(masks > 0, torch.rand_like(images), images)
    filled = kind(CPU).edit(images, masks)
    assert torch.equal(filled, kind(CPU).edit(other, masks))
    assert torch.equal(torch.where(masks > 0, images, filled), images)
    hole = (masks > 0).expand_as(images)
    assert error(filled[hole], images[hole]) < error(images[hole].mean(), images[hole])


def test_biharmonic_functions_continue_a_slope():
    images = torch.linspace(-0.8, 0.8, 24).expand(1, 3, 24, 24).contiguous()
    masks = torch.zeros(1, 1, 24, 24)
    masks[..., 8:14, 8:14] = 1
    torch.testing.assert_close(Biharmonic(CPU).edit(images, masks), images, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Bicubic(CPU).edit(photo(8), scale=0), "--scale is 0"),
        (lambda: Lanczos(CPU).edit(photo(8), scale=17), "--scale is 17"),
        (lambda: Median(CPU).edit(photo(8), size=4), "--size is 4"),
        (lambda: Bilateral(CPU).edit(photo(8), std_space=11.0), "--std_space is 11"),
        (lambda: NonLocalMeans(CPU).edit(photo(8), std=-1.0), "--std is -1"),
        (lambda: Biharmonic(CPU).edit(photo(8), torch.ones(1, 1, 8, 8)), "covers all"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_aigc_edit_takes_the_name_of_an_editor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(((photo(20)[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save("a.png")
    assert edit("bicubic", "a.png", "--scale", "3", "--out", "large") == 0
    made = Image.open("large/a.png")
    assert made.size == (60, 60) and "the method bicubic" in made.text["Description"]
    assert '"method": "bicubic"' in made.text["aigc"] and '"scale": 3' in made.text["aigc"]
    with pytest.raises(UserError, match="needs --mask"):
        edit("biharmonic", "a.png")
    mask = np.zeros((20, 20), np.uint8)
    mask[5:9, 6:12] = 255
    Image.fromarray(mask).save("mask.png")
    assert edit("biharmonic", "a.png", "--mask", "mask.png", "--out", "filled") == 0
    before, after = (np.asarray(Image.open(path).convert("RGB")) for path in ("a.png", "filled/a.png"))
    assert (before == after)[mask == 0].all() and not (before == after)[mask == 255].all()


@needs_spandrel
def test_networks_of_other_projects_are_recognized(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = RRDB(3, 4, 8, 2).eval()
    names = {"head": "conv_first", "body.2": "conv_body", "upsampling.0": "conv_up1", "upsampling.1": "conv_up2"}
    names |= {"penultimate": "conv_hr", "last": "conv_last"}
    weights = {}
    for name, value in network.state_dict().items():
        stem, kind = name.rsplit(".", 1)
        if stem in names:
            stem = names[stem]
        else:
            _, block, _, dense, _, layer = stem.split(".")
            stem = f"body.{block}.rdb{int(dense) + 1}.conv{int(layer) + 1}"
        weights[f"{stem}.{kind}"] = value
    torch.save({"params_ema": weights}, "foreign.pth")
    editor = ForeignNetwork(tmp_path / "foreign.pth", CPU)
    images = photo(20)
    with torch.no_grad():
        expected = 2 * network((images + 1) / 2) - 1
    torch.testing.assert_close(editor.edit(images), expected.clamp(-1, 1), atol=1e-5, rtol=0)
    Image.new("RGB", (9, 7), (200, 30, 10)).save("a.png")
    assert edit("foreign.pth", "a.png", "--out", "large") == 0
    assert Image.open("large/a.png").size == (36, 28)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@needs_spandrel
def test_files_with_more_than_weights_are_refused_and_not_executed(tmp_path, capsys):
    torch.save({"weights": Harmful()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth cannot be read"):
        ForeignNetwork(tmp_path / "a.pth", CPU)
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "b.pth")
    with pytest.raises(UserError, match="unknown"):
        ForeignNetwork(tmp_path / "b.pth", CPU)
    assert "executed" not in capsys.readouterr().out
