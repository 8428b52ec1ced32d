"""`aigc stylegan`: sheets, projections, directions and edits by models that were not trained."""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigc_lightning import ImageSpec, UserError
from aigc_lightning.cli import main
from aigc_lightning.core.checkpoint import load_model, save_weights
from aigc_lightning.core.io.pictures import to_uint8
from PIL import Image
from torch import Tensor

from aigc_stylegan import directions, editing, mixing, projection
from aigc_stylegan.layers import EqualizedLinear
from aigc_stylegan.progan import ProGAN
from aigc_stylegan.style_model import StyleModel
from aigc_stylegan.stylegan2 import StyleGAN2

SMALL: dict[str, Any] = {"latent_size": 8, "style_size": 6, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}
STEP = 66  # pixels from a cell of a sheet to the next; images of 16 pixels are shown fourfold


def build(channels: int = 1, height: int = 16, width: int = 16, seed: int = 0, **changed: Any) -> StyleGAN2:
    torch.manual_seed(seed)
    model = StyleGAN2(ImageSpec(channels, height, width, tuple("abc")), **{**SMALL, **changed})
    for layer in (model.generator.synthesis.first, *model.generator.synthesis.same):
        torch.nn.init.constant_(layer.noise_strength, 0.1)
    model.configure_model()  # makes the averages
    return model.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with models of classes, of colours, with other weights, and of another kind."""
    folder = tmp_path_factory.mktemp("models")
    models: dict[str, Any] = {
        "grey": build(conditional=True),
        "colour": build(3),
        "other": build(conditional=True, seed=1),
    }
    models["progan"] = ProGAN(ImageSpec(1, 16, 16))
    models["progan"].configure_model()
    for name, model in models.items():
        save_weights(model, folder / f"{name}.safetensors", {})
    return folder


@pytest.fixture
def folder(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which holds the models."""
    monkeypatch.chdir(tmp_path)
    for path in models.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def cells(path: Path | str, columns: int) -> np.ndarray:
    """Return the 16x16 images of a sheet, (rows, columns, 16, 16, ...)."""
    pixels = np.asarray(Image.open(path)).astype(int)
    rows = (len(pixels) + 2) // STEP
    return np.array(
        [
            [pixels[STEP * r : STEP * r + 64 : 4, STEP * c : STEP * c + 64 : 4] for c in range(columns)]
            for r in range(rows)
        ]
    )


def picture(images: Tensor) -> np.ndarray:
    return to_uint8(images)[0, 0].numpy().astype(int)


def stored(path: Path | str) -> dict[str, Any]:
    return json.loads(Image.open(path).text["aigc"])


def stylegan(*options: object) -> None:
    assert main(["stylegan", *map(str, options)]) == 0


def refused(capfd: pytest.CaptureFixture[str], *options: object) -> str:
    capfd.readouterr()
    assert main(["stylegan", *map(str, options)]) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) <= 4
    return said


# ---- styles


def test_styles_of_seeds_are_those_of_sample(folder: Path) -> None:
    model = StyleModel("grey.safetensors", "cpu")
    for trunc in (1.0, 0.5, -1.0, 1.5):
        images = model.images(model.styles([4, 5], trunc))
        expected = [to_uint8(model.model.sample([seed], trunc=trunc)) for seed in (4, 5)]
        assert torch.equal(images, torch.cat(expected)), trunc
    of_class = StyleModel("grey.safetensors", "cpu", "c")
    assert torch.equal(of_class.images(of_class.styles([4])), to_uint8(model.model.sample([4], [2])))


def test_both_spaces_show_what_sample_shows() -> None:
    model = build(conditional=True)
    for labels in (None, [2, 0]):
        shown = model.sample([4, 5], labels)
        styles = model.latents([4, 5], labels, "w")
        assert styles.shape == (2, 6)
        torch.testing.assert_close(model.decode(styles, labels, "w"), shown)
        torch.testing.assert_close(
            model.decode(styles, labels or [1, 2], "w", trunc=0.3), model.sample([4, 5], labels, trunc=0.3)
        )
        layers = styles[:, None].repeat(1, 6, 1)
        torch.testing.assert_close(model.decode(layers, labels, "w"), shown)


def test_truncation_follows_the_weights() -> None:
    model = build(conditional=True)
    before = model.mean_styles([1, 0])
    assert torch.equal(model.mean_styles([0, 1]).flip(0), before)
    with torch.no_grad():
        model.averaged("generator").mapping.layers[0].bias.add_(1)
    assert not torch.allclose(model.mean_styles([1, 0]), before)


@pytest.mark.parametrize(
    ("size", "levels", "numbers"),
    [
        (16, "coarse", [0, 1, 2, 3]),
        (16, "middle", [4, 5]),
        (64, "middle", [4, 5, 6, 7]),
        (64, "fine", [8, 9]),
        (16, "all", [0, 1, 2, 3, 4, 5]),
        (16, "5, 0-1", [0, 1, 5]),
        (64, "coarse,9", [0, 1, 2, 3, 9]),
    ],
)
def test_levels(size: int, levels: str, numbers: list[int], tmp_path: Path) -> None:
    save_weights(build(height=size, width=size), tmp_path / "m.safetensors", {})
    assert StyleModel(str(tmp_path / "m.safetensors"), "cpu").style_numbers(levels) == numbers


@pytest.mark.parametrize("levels", ["fine", "6", "0-6", "3-1", "", "-1", "rough", "1.5"])
def test_levels_that_are_not_there(levels: str, folder: Path) -> None:
    with pytest.raises(UserError, match=r"16x16 images has no levels.*\n.*coarse \(0-3\), middle \(4-5\), all \(0-5\)"):
        StyleModel("grey.safetensors", "cpu").style_numbers(levels)


# ---- mix


def test_mixing_takes_some_styles_from_others() -> None:
    style, others = torch.zeros(4, 2), torch.ones(3, 4, 2)
    assert mixing.mixed(style, others, [1, 2])[:, :, 0].tolist() == [[0, 1, 1, 0]] * 3
    assert not style.any()


def test_a_sheet_of_mixed_styles(folder: Path) -> None:
    stylegan("mix", "grey.safetensors", "--rows", "0,1", "--columns", "3-5", "--levels", "0-2", "--trunc", "0.8")
    sheet, model = cells("mix.png", 4), load_model("grey.safetensors")
    assert (sheet[0, 0] == 255).all()
    for place, seed in enumerate((3, 4, 5), 1):
        assert (sheet[0, place] == picture(model.sample([seed], trunc=0.8))).all()
    assert (sheet[1, 0] == picture(model.sample([0], trunc=0.8))).all()
    own, other = (torch.lerp(model.mean_styles([s % 3]), model.latents([s], None, "w"), 0.8) for s in (1, 5))
    styles = torch.stack([other, other, other, own, own, own], dim=1)
    assert (sheet[2, 3] == picture(model.decode(styles, [0], "w"))).all()
    assert (sheet[2, 3] != sheet[2, 0]).any() and (sheet[2, 3] != sheet[0, 3]).any()
    said = stored("mix.png")["options"]
    assert said == {"command": "stylegan mix", "rows": [0, 1], "columns": [3, 4, 5], "levels": [0, 1, 2], "trunc": 0.8}


# ---- directions


def test_principal_directions_of_a_known_spread() -> None:
    axes = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))[0].T
    spreads = torch.tensor([1.0, 4.0, 0.5, 3.0, 2.0])
    numbers = torch.randn(20_000, 5, generator=torch.Generator().manual_seed(1)) * spreads
    found = directions.principal_directions(numbers @ axes, 3).float()
    assert ((found @ axes.T).abs()[range(3), [1, 3, 4]] > 0.99).all()
    assert (found.gather(1, found.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_factorized_directions_change_most() -> None:
    weights = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)).double()
    found = directions.factorized_directions(weights, 5)
    torch.testing.assert_close(found @ found.T, torch.eye(5).double())
    lengths = (found @ weights.T).norm(dim=1)
    torch.testing.assert_close(lengths, torch.linalg.svdvals(weights))


def test_affine_weights_are_of_the_layers_that_read_a_style() -> None:
    synthesis = build().generator.synthesis
    affine = [module for module in synthesis.modules() if isinstance(module, EqualizedLinear)]
    styles = torch.randn(1, 6, 6)
    for number in range(6):
        outputs: list[list[Tensor]] = [[], []]
        for kept, shift in zip(outputs, (0.0, 1.0), strict=True):
            hooks = [m.register_forward_hook(lambda _m, _a, out, kept=kept: kept.append(out)) for m in affine]
            moved = styles.clone()
            moved[:, number] += shift
            synthesis(moved)
            for hook in hooks:
                hook.remove()
        changes = [(after - before)[0] for before, after in zip(*outputs, strict=True)]
        changes = [change for change in changes if change.any()]
        expected = directions.affine_weights(synthesis, [number]) @ torch.ones(6)
        torch.testing.assert_close(torch.cat(changes).sort().values, expected.sort().values)
    assert len(directions.affine_weights(synthesis, range(6))) == sum(len(m.bias) for m in affine)


def test_directions_of_a_model_with_classes_lie_within_classes(folder: Path) -> None:
    styles, means = StyleModel("grey.safetensors", "cpu").sampled(300)
    assert len(means.unique(dim=0)) == 3
    torch.testing.assert_close(styles[1::3].mean(dim=0), means[1])
    one, mean = StyleModel("grey.safetensors", "cpu", "b").sampled(300)
    assert len(mean.unique(dim=0)) == 1 and torch.allclose(one[1], styles[1])


def test_directions_with_a_flipped_bit_are_refused(folder: Path) -> None:
    stylegan("directions", "colour.safetensors", "--num", "2", "--out", "d.safetensors")
    model, path = StyleModel("colour.safetensors", "cpu"), Path("d.safetensors")
    whole, data = model.load(path, directions.KIND, ["directions"]), path.read_bytes()
    for place in range(0, len(data), 17):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            tensors, options = model.load(path, directions.KIND, ["directions"])
        except UserError as error:
            assert "d.safetensors" in error.what
        else:
            assert options == whole[1] and all(torch.equal(tensors[name], value) for name, value in whole[0].items())


@pytest.mark.parametrize("method", ["ganspace", "sefa"])
def test_an_edit_follows_directions(method: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stylegan(
        "directions",
        "colour.safetensors",
        "--method",
        method,
        "--num",
        "3",
        "--levels",
        "1-4",
        "--out",
        "d.safetensors",
    )
    assert f"3 directions by {method}" in capsys.readouterr().out
    model = StyleModel("colour.safetensors", "cpu")
    tensors, options = model.load(Path("d.safetensors"), directions.KIND, ["directions"])
    assert tensors["directions"].shape == (3, 6) and options["levels"] == [1, 2, 3, 4]
    styles, means = model.sampled(2000)
    along = (styles - means) @ tensors["directions"].T
    torch.testing.assert_close(along.std(dim=0), tensors["deviations"], rtol=0.1, atol=0)
    options = ["--seeds", "7,9", "--directions", "d.safetensors", "--direction", "2", "--columns", "5"]
    stylegan("edit", "colour.safetensors", *options, "--strength", "-3..3")
    sheet, plain = cells("edit.png", 5), load_model("colour.safetensors")
    for row, seed in enumerate((7, 9)):
        assert (sheet[row, 2].transpose(2, 0, 1) == to_uint8(plain.sample([seed]))[0].numpy()).all()
    moved = model.styles([9])[0].repeat(1, 1, 1)
    moved[:, 1:5] += 3 * tensors["deviations"][2] * tensors["directions"][2]
    assert (sheet[1, 4].transpose(2, 0, 1) == model.images(moved)[0].numpy()).all()
    said = stored("edit.png")
    assert (
        said["seeds"] == [7, 9] and said["options"]["strength"] == [-3, 3] and said["options"]["levels"] == [1, 2, 3, 4]
    )
    stylegan("edit", "colour.safetensors", *options, "--strength=3", "--levels", "coarse,4-5", "--out", "b.png")
    assert (
        stored("b.png")["options"]["levels"] == [0, 1, 2, 3, 4, 5]
        and (cells("b.png", 5)[1, 0] == cells("b.png", 5)[1, 4]).all()
    )


def test_moving_by_hand() -> None:
    found = editing.moved(torch.zeros(3, 2), torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 0.5]), [0, 2])
    assert found.tolist() == [[[-1, 2], [0, 0], [-1, 2]], [[0.5, -1], [0, 0], [0.5, -1]]]


# ---- project


def test_the_learning_rate_rises_and_falls() -> None:
    shares = {0.0: 0.0, 0.025: 0.5, 0.05: 1.0, 0.75: 1.0, 0.875: 0.5, 1.0: 0.0}
    for time, share in shares.items():
        assert projection.learning_rate_share(time) == pytest.approx(share)


def test_noise_regularization_by_hand() -> None:
    flat, stripes = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 8, 8)
    stripes[..., ::2] = -1
    assert projection.noise_regularization([flat]).item() == 2
    assert projection.noise_regularization([stripes]).item() == 2  # opposite along the rows, equal along the columns
    large = torch.ones(1, 1, 16, 16)  # at half its size it is 2, whose square is squared
    assert projection.noise_regularization([large, flat]).item() == 2 + 2 * 16 + 2
    white = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert projection.noise_regularization([white]).item() < 0.1


def test_distances() -> None:
    target = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert projection.distance_from(target)(target) == 0
    assert projection.distance_from(target)(target + 0.5).item() == pytest.approx(0.25)
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 - 0.5  # is gone at half the size
    assert projection.distance_from(target)(target + board).item() == pytest.approx(0.25 / 3, rel=1e-4)
    found = [
        projection.distance_from(target, lambda image, scale=scale: [scale * image, image.flatten(1)])(target + 0.5)
        for scale in (1.0, 10.0)
    ]
    assert found[0].item() == pytest.approx(found[1].item())
    assert found[0].item() == pytest.approx(0.25 + 0.25 / target.square().mean().item(), rel=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_a_search_comes_nearer(shared: bool) -> None:
    model = build()
    synthesis = model.generator.requires_grad_(False).synthesis
    target = model.sample([3])
    start = model.mean_styles() if shared else model.mean_styles()[:, None].expand(-1, 6, -1)

    def found() -> list[projection.Step]:
        return list(projection.search(synthesis, projection.distance_from(target), start, 1.0, steps=30, seed=5))

    steps, again = found(), found()
    assert len(steps) == 31 and steps[-1].distance < 0.5 * steps[0].distance
    assert steps[-1].styles.shape == start.shape
    assert torch.equal(steps[-1].styles, again[-1].styles) and torch.equal(steps[-1].noise, again[-1].noise)
    first = steps[-1].noise[:, :16]
    assert first.mean().abs() < 1e-5 and first.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_projections_are_written_and_can_be_edited(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model("colour.safetensors")
    target = to_uint8(model.sample([3]))[0].permute(1, 2, 0).numpy()
    Image.fromarray(target).resize((32, 32), Image.Resampling.NEAREST).save("a.png")
    (folder / "more").mkdir()
    Image.fromarray(target[:, :, 0]).save("more/a.png")  # grey becomes colour
    options = ["--out", "p", "--steps", "12", "--space", "w+", "--seed", "2"]
    stylegan("project", "colour.safetensors", "a.png", "more", *options)
    out = capsys.readouterr().out
    assert "a.png: distance" in out and "PSNR" in out and "p/a-2.gif" in out
    assert {path.name for path in Path("p").iterdir()} == {
        f"{stem}.{end}" for stem in ("a", "a-2") for end in ("png", "gif", "safetensors")
    }
    with Image.open("p/a.gif") as film:
        assert film.n_frames == 13 and film.size == (256, 128)
    said = stored("p/a.png")["options"]
    assert said["command"] == "stylegan project" and said["space"] == "w+" and said["steps"] == 12 and said["seed"] == 2
    stylegan("directions", "colour.safetensors", "--num", "2")
    files = ["--latent", "p/a.safetensors", "p/a-2.safetensors", "--directions", "directions.safetensors"]
    stylegan("edit", "colour.safetensors", *files, "--direction", "0-1", "--columns", "3")
    sheet = cells("edit.png", 3)
    assert len(sheet) == 4
    assert (sheet[0, 1] == cells("p/a.png", 2)[0, 1]).all() and (sheet[3, 1] == cells("p/a-2.png", 2)[0, 1]).all()
    assert (sheet[0, 2] != sheet[0, 1]).any() and (sheet[0, 2] != sheet[1, 2]).any()
    assert set(stored("edit.png")["options"]["latent"]) == {"a.safetensors", "a-2.safetensors"}
    stylegan("project", "colour.safetensors", "a.png", "--out", "again", *options[2:], "--film", "none")
    assert (folder / "again/a.png").read_bytes() == (folder / "p/a.png").read_bytes()
    assert not (folder / "again/a.gif").exists()


# ---- what is refused


def test_mistakes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "text.png").write_text("no image")
    stylegan("directions", "grey.safetensors", "--num", "2", "--out", "d.safetensors")
    cases = {
        ("mixx",): ["'mixx'", "mix"],
        ("mix", "nowhere"): ["nowhere"],
        ("mix", "progan.safetensors"): ["ProGAN", "has no styles", "stylegan2"],
        ("mix", "grey.safetensors", "--levels", "fine"): ["16x16", "'fine'"],
        ("mix", "grey.safetensors", "--trunc", "nan"): ["--trunc"],
        ("mix", "grey.safetensors", "--class", "d"): ["'d'"],
        ("mix", "colour.safetensors", "--class", "a"): ["without classes"],
        ("mix", "grey.safetensors", "--rows", "x"): ["'x'"],
        ("mix", "grey.safetensors", "--out", "a.gif"): ["a.gif", ".png"],
        ("mix", "grey.safetensors", "--trnc", "1"): ["'--trnc'", "--trunc"],
        ("directions", "grey.safetensors", "--num", "7"): ["--num is 7", "6"],
        ("directions", "grey.safetensors", "--num", "0"): ["--num is 0"],
        ("directions", "grey.safetensors", "--out", "a.npz"): ["a.npz", ".safetensors"],
        ("directions", "grey.safetensors", "--method", "pca"): ["--method"],
        ("edit", "grey.safetensors"): ["--directions"],
        ("edit", "grey.safetensors", "--directions", "none"): ["none cannot be read"],
        ("edit", "grey.safetensors", "--directions", "text.png"): ["not a complete safetensors file"],
        ("edit", "grey.safetensors", "--directions", "grey.safetensors"): ["something else, not directions"],
        ("edit", "other.safetensors", "--directions", "d.safetensors"): ["a different model", "grey.safetensors"],
        ("edit", "grey.safetensors", "--directions", "d.safetensors", "--direction", "2"): ["no direction 2", "has 2"],
        ("edit", "grey.safetensors", "--directions", "d.safetensors", "--direction", "a"): ["--direction is 'a'"],
        ("edit", "grey.safetensors", "--directions", "d.safetensors", "--strength", "a..b"): ["--strength", "-3..3"],
        ("edit", "grey.safetensors", "--directions", "d.safetensors", "--columns", "0"): ["--columns is 0"],
        ("edit", "grey.safetensors", "--directions", "d.safetensors", "--latent", "d.safetensors"): ["not a projected"],
        ("edit", "grey.safetensors", "--directions", "d", "--latent", "d", "--seeds", "1"): ["--latent", "--seeds"],
        ("project", "grey.safetensors"): ["IMAGE"],
        ("project", "grey.safetensors", "text.png"): ["text.png", "cannot be read"],
        ("project", "grey.safetensors", "none.png"): ["none.png"],
        ("project", "grey.safetensors", "text.png", "--steps", "0"): ["--steps is 0"],
        ("project", "grey.safetensors", "text.png", "--seed", "-1"): ["--seed is -1"],
    }
    for options, parts in cases.items():
        said = refused(capfd, *options)
        assert all(part in said for part in parts), (options, said)


def test_features_of_a_model_that_shows_none(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (16, 16)).save("a.png")
    said = refused(capfd, "project", "grey.safetensors", "a.png", "--features", "progan.safetensors")
    assert "ProGAN" in said and "cnn" in said


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    stylegan("--help")
    said = capsys.readouterr().out
    assert all(name in said for name in ("mix", "project", "directions", "edit"))


@pytest.mark.parametrize("words", [(), ("mix",), ("project",), ("directions",), ("edit",)], ids=" ".join)
def test_each_help_ends_with_examples_of_what_the_command_has(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(SystemExit):
        main(["stylegan", *words, "--help"])
    body, _, examples = capsys.readouterr().out.partition("\nExamples:\n")
    lines = [line.split() for line in examples.strip().splitlines()]
    assert lines and all(line[:2] == ["aigc", "stylegan"] for line in lines)
    options = {part for line in lines if line[2:3] == list(words) for part in line if part.startswith("--")}
    assert options <= set(re.findall(r"--[a-z-]+", body))
