"""Options that a model declares: they reach it, pictures say them, and what is no option is said."""

import json

import numpy as np
import pytest
from PIL import Image

from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.testing.checks import CheckFailedError
from aigc_lightning.testing.model_checks import output_is_an_image

SOURCE = """
from typing import TYPE_CHECKING, Literal

from aigc_lightning.core.image_model import ImageModel, seeded_normal

if TYPE_CHECKING:
    from nowhere import Nothing


class Painted(ImageModel):
    spaces = ("z", "w")

    def sample(
        self,
        seeds,
        *,
        shade: float = 0.0,
        rows: int = 0,
        flip: bool = False,
        side: Literal["left", "right"] = "left",
        name: str = "",
        other: list[int] = (),
    ):
        images = self.decode(self.latents(seeds), shade=shade)
        images[:, :, :rows] = -1
        if side == "right":
            images[..., 4:] = len(name) / 10
        return images.flip(2) if flip else images

    def latents(self, seeds, labels=None, space="z"):
        latents = seeded_normal(seeds, 2)
        return latents if space == "z" else latents / latents.norm(dim=1, keepdim=True)

    def decode(self, latents, labels=None, space="z", *, shade: float = 0.0):
        values = latents if space == "w" else latents / latents.norm(dim=1, keepdim=True)
        return (values[:, :1, None, None] / 2 + shade).clamp(-1, 1).repeat(1, 1, 8, 8)


class Quiet(ImageModel):
    def sample(self, seeds: "Nothing", *, shade: "Nothing" = None):
        return seeded_normal(seeds, 1, 8, 8).clamp(-1, 1)
"""


@pytest.fixture
def painted(site, folder):
    """Return the checkpoints of a model with options and of one without."""
    points = {"models": {"painted": "painted_fake:Painted", "quiet": "painted_fake:Quiet"}}
    site.install("aigc-painted", points, {"painted_fake.py": SOURCE}, marked=False)
    module = __import__("painted_fake")
    for name in ("Painted", "Quiet"):
        save_weights(getattr(module, name)(ImageSpec(1, 8, 8)), folder / f"{name}.safetensors", {})
    return "Painted.safetensors", "Quiet.safetensors"


def picture(path):
    return np.asarray(Image.open(path)).astype(int)


def stored(path):
    return json.loads(Image.open(path).info["aigc"])


def test_values_reach_the_model(aigc, painted, folder):
    assert aigc("sample", painted[0], "--seeds", "3", "--out", "plain").code == 0
    options = ["--shade=-0.25", "--rows", "2", "--flip", "true", "--side", "right", "--name", "ab"]
    done = aigc("sample", *options, painted[0], "--seeds", "3", "--out", "changed")
    assert done.code == 0, done.err
    plain, changed = picture(folder / "plain/000003.png"), picture(folder / "changed/000003.png")
    assert abs(changed[0, 0] - (plain[0, 0] - 32)) <= 1
    assert (changed[6:, :4] == 0).all() and (changed[:, 4:] == round(1.2 * 127.5)).all()


def test_a_picture_can_be_made_again_from_what_it_says(aigc, painted, folder):
    aigc("sample", painted[0], "--seeds", "4,5", "--shade", "-.125", "--flip", "false", "--rows", "3", "--out", "a")
    said = stored(folder / "a/000005.png")
    assert said["options"] == {"shade": -0.125, "flip": False, "rows": 3}
    options = [part for name, value in said["options"].items() for part in (f"--{name}", json.dumps(value))]
    assert aigc("sample", painted[0], "--seeds", said["seeds"][0], *options, "--out", "b").code == 0
    assert (folder / "a/000005.png").read_bytes() == (folder / "b/000005.png").read_bytes()
    aigc("sample", painted[0], "--seeds", "5", "--out", "c")
    assert "options" not in stored(folder / "c/000005.png")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--shde", "1"], ["'--shde'", "Painted", "--shade", "--side"]),
        (["--seed", "1"], ["'--seed'", "--seeds"]),
        (["--other", "1"], ["'--other'"]),
        (["--shade", "dark"], ["--shade is 'dark'", "number", "0.0"]),
        (["--shade", "nan"], ["--shade is 'nan'"]),
        (["--rows", "1.5"], ["--rows is '1.5'", "whole number"]),
        (["--flip", "yes"], ["--flip is 'yes'", "false, true"]),
        (["--side", "lefft"], ["'lefft'", "left"]),
        (["--shade"], ["'--shade' without a value"]),
        (["--shade", "--grid"], ["'--shade' without a value"]),
    ],
)
def test_mistakes(aigc, painted, options, parts):
    done = aigc("sample", painted[0], *options)
    assert done.code == 2 and all(part in done.err for part in parts), done.err
    assert len(done.lines) <= 4


def test_a_model_without_options(aigc, painted, folder):
    assert aigc("sample", painted[1], "--seeds", "0").code == 0
    done = aigc("sample", painted[1], "--shade", "1")
    assert done.code == 2 and "takes no options of its own" in done.err


def test_the_page_of_a_model_shows_its_options(aigc, painted):
    page = aigc("plugins", "show", "painted").out
    assert "--shade" in page and "aigc sample" in page and "other" not in page


def test_a_walk_in_a_second_space_is_straight(aigc, painted, folder):
    made = {}
    for space in ("z", "w"):
        done = aigc(
            "interpolate",
            painted[0],
            "--seeds",
            "1,2",
            "--frames",
            8,
            "--space",
            space,
            "--grid",
            "--out",
            f"{space}.gif",
        )
        assert done.code == 0, done.err
        row = picture(folder / f"{space}_grid.png")[0]
        made[space] = row[::66][:9]
    assert abs(np.diff(made["w"], 2)).max() <= 1  # even steps
    assert abs(np.diff(made["z"], 2)).max() > 2
    assert made["w"][0] == made["z"][0] and made["w"][8] == made["z"][8]
    assert stored(folder / "w_strip.png")["options"] == {"frames": 8, "space": "w"}
    assert stored(folder / "z_strip.png")["options"] == {"frames": 8}


@pytest.mark.parametrize(
    ("which", "options", "parts"),
    [
        (0, ["--space", "v"], ["no latent space 'v'", "w, z"]),
        (0, ["--traverse", "1", "--space", "w"], ["--traverse", "--space"]),
        (0, ["--rows", "1"], ["'--rows'", "--shade"]),
    ],
)
def test_mistakes_of_walks(aigc, painted, which, options, parts):
    done = aigc("interpolate", painted[which], *options)
    assert done.code == 2 and all(part in done.err for part in parts), done.err


def test_a_model_with_one_space(aigc, trained):
    done = aigc("interpolate", trained, "--space", "w")
    assert done.code == 2 and "has only one space" in done.err


def test_options_of_a_walk(aigc, painted, folder):
    for shade in ("0", "-0.25"):
        done = aigc(
            "interpolate", painted[0], "--seeds", "1,2", "--frames", 1, "--shade", shade, "--out", f"{shade}.gif"
        )
        assert done.code == 0, done.err
    plain, shaded = (picture(folder / f"{shade}_strip.png") for shade in ("0", "-0.25"))
    assert abs(shaded[0, 0] - (plain[0, 0] - 32)) <= 1
    assert stored(folder / "-0.25_strip.png")["options"] == {"frames": 1, "shade": -0.25}


def test_the_conformance_kit_notices_spaces_that_disagree(painted):
    spec = ImageSpec(1, 8, 8)
    model = __import__("painted_fake").Painted(spec)
    output_is_an_image(model, spec)
    right = model.latents
    model.latents = lambda seeds, labels=None, space="z": right(seeds, labels, space) * (-1 if space == "w" else 1)
    with pytest.raises(CheckFailedError, match="different image in the space 'w'"):
        output_is_an_image(model, spec)
