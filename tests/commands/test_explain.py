"""`aigc explain`: one page and one JSON file."""

import json

import pytest
import torch
from PIL import Image

from aigc_lightning.models.vae import VAE


@pytest.fixture
def picture(folder):
    Image.effect_noise((8, 8), 60).save(folder / "a.png")
    return folder / "a.png"


def parts(folder):
    page = (folder / "explained" / "explanation.html").read_text()
    assert "src='http" not in page
    found = json.loads((folder / "explained" / "explanation.json").read_text())
    assert all(part["title"] in page for part in found["parts"])
    return {part["title"]: part["rows"] for part in found["parts"]}


def test_a_classifier_is_explained_with_its_checks(aigc, judge, folder, picture):
    done = aigc("explain", judge, picture, "--class", "3")
    assert done.code == 0 and "explanation.html" in done.out, done.err
    rows = parts(folder)["What the classifier sees"]
    assert [row["method"] for row in rows] == ["integrated gradients", "Grad-CAM", "occlusion", "random order"]
    assert all(row["class"] == "3" and 0 <= row["deletion_auc"] <= 1 for row in rows)
    assert {row["depends_on_weights"] for row in rows} <= {"yes", "no", "-"}


def test_a_generator_is_explained_by_directions_and_channels(aigc, trained, judge, folder):
    done = aigc("explain", trained, "--classifier", judge)
    assert done.code == 0, done.err
    found = parts(folder)
    assert len(found["Directions by SeFa"]) == len(found["Directions by principal components of the images"]) == 4
    assert len(found["Channels that draw a class"]) == 10
    assert "change_of_classes" in found["Directions by SeFa"][0]


def test_the_nearest_training_images_of_a_seed(aigc, trained, judge, folder):
    done = aigc("explain", trained, "--seed", "7,3", "--extractor", judge)
    assert done.code == 0, done.err
    rows = parts(folder)["Nearest training images"]
    assert [row["seed"] for row in rows] == [3, 7]
    assert all(0 <= row["copy_score"] <= 1 and row["distance"] >= 0 for row in rows)


def test_a_vae_shows_the_divergence_of_its_dimensions(aigc, shared_run, folder, picture):
    model = {"model": "vae", "model.latent_size": 3, "model.width": 4, "data": "digits", "data.size": 8}
    run = shared_run("explained_vae", **model, **{"trainer.max_steps": 2, "trainer.limit_val_batches": 0})
    assert aigc("explain", run, picture).code == 0
    rows = parts(folder)["Latent dimensions"]
    values = [row["kl_in_nats"] for row in rows]
    assert len(rows) == 3 and values == sorted(values, reverse=True) and min(values) >= 0


def test_the_divergence_of_dimensions_is_that_of_the_bound():
    from aigc_lightning.core.spec import ImageSpec

    model = VAE(ImageSpec(1, 8, 8), latent_size=3, width=4).eval()
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        bound = model.bound(images, torch.zeros(2, 3))
    assert torch.allclose(model.latent_divergence(images), bound.divergence, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("a.png", "--seed", 7), "Pictures and --seed"),
        (("a.png", "--classifier", "x"), "--classifier has no effect with pictures"),
        (("--class", "3"), "--class has no effect with neither"),
        (("--extractor", "x"), "--extractor has no effect"),
        (("--seed", 7, "--class", "3"), "--class has no effect with --seed"),
        (("--seed", "0-64"), "names 65 seeds"),
        (("a.png", "--class", "x"), "does not recognise a class 'x'"),
        (("a.png", "--prompt", "a circle"), "--prompt has no effect: "),
        (("a.png", "--noise", "0.3"), "--noise has no effect: "),
        (("--prompt", "a circle"), "--prompt has no effect with neither"),
        (("--seed", 7, "--noise", "0.3"), "--noise has no effect with --seed"),
        ((), "has no latents to explain"),
    ],
)
def test_what_has_no_effect_is_refused(aigc, judge, picture, options, message):
    done = aigc("explain", judge, *options)
    assert done.code == 2 and message in done.err and len(done.lines) <= 4
