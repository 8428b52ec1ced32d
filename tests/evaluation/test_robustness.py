"""Scores of corrupted images: of a classifier, an editor and a generator."""

import json

import pytest
import torch

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.common_corruptions import COMMON
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.evaluation.classification import score_classifier
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.robustness import (
    OF_SAMPLES,
    CorruptedData,
    CorruptedImages,
    classifier_robustness,
    draw_curves,
    editor_robustness,
)
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN


@pytest.fixture(scope="module")
def images():
    return DataImages(Digits(size=8), "val", numbers=range(30))


@pytest.mark.parametrize("kind", ["fog", "jpeg_compression"])
def test_severity_0_is_the_clean_set_bit_for_bit(images, kind):
    for spoilt in (CorruptedData(images, kind, 0), CorruptedImages(images, kind, 0)):
        assert spoilt.fingerprint() == images.fingerprint()
    assert torch.equal(CorruptedData(images, kind, 0).batch([3, 4])["image"], images.batch([3, 4])["image"])
    worse = CorruptedData(images, kind, 5)
    assert worse.fingerprint() != images.fingerprint()
    assert torch.equal(worse.read([7])[0][0], worse.read([5, 6, 7])[0][2])  # by its index alone
    assert torch.equal(worse.batch([7])["label"], images.batch([7])["label"])


def test_a_classifier_has_its_clean_accuracy_at_severity_0_and_less_after(images):
    torch.manual_seed(0)
    model = CNN(ImageSpec(1, 8, 8, tuple("0123456789")), width=4).eval()
    found = classifier_robustness(model, images)
    clean = score_classifier(model, images)[0].scores["accuracy"]
    assert found.section.scores["accuracy"] == clean
    curves = found.curves["accuracy"]
    assert list(curves) == list(COMMON) == list(found.section.classes)
    assert all(len(values) == 6 and values[0] == clean for values in curves.values())
    spoilt = [value for values in curves.values() for value in values[1:]]
    assert found.section.scores["corrupted_accuracy"] == pytest.approx(sum(spoilt) / 75)
    assert draw_curves(found.curves).size[0] > 300


def test_an_editor_is_compared_with_the_targets_of_the_clean_images(images, monkeypatch):
    model = Autoencoder(ImageSpec(1, 8, 8), width=4).eval()
    monkeypatch.setattr(Autoencoder, "edit", lambda self, images: images)  # PSNR of the corruption itself
    found = editor_robustness(model, images, images)
    assert found.section.scores["psnr"] == 100.0 and 5 < found.section.scores["corrupted_psnr"] < 40
    noise = found.curves["psnr"]["gaussian_noise"]
    assert noise == sorted(noise, reverse=True)


def test_a_classifier_on_the_command_line(aigc, judge, folder):
    done = aigc("evaluate", judge, "--metrics", "robustness", "--num", 20, "--out", "e")
    assert done.code == 0 and "corrupted images" in done.out, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert section["kind"] == "robustness" and section["scores"]["relative_accuracy"] < 1
    assert (folder / "e" / "robustness.png").is_file()
    page = (folder / "e" / "report.html").read_text()
    assert "By corruption" in page and "gaussian_noise" in page


def test_samples_are_corrupted_before_they_are_judged(aigc, trained, judge, folder):
    done = aigc("evaluate", trained, "--extractor", judge, "--metrics", "robustness", "--num", 60, "--out", "e")
    assert done.code == 0, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert len(section["classes"]) % len(OF_SAMPLES) == 0 and "frechet_distance, pixelate" in section["classes"]
    assert -1 <= section["scores"]["frechet_distance_ranking"] <= 1
    plain = aigc("evaluate", trained, "--extractor", judge, "--metrics", "frechet_distance", "--num", 60, "--out", "p")
    assert plain.code == 0
    clean = json.loads((folder / "p" / "scores.json").read_text())["sections"][0]["scores"]["frechet_distance"]
    assert section["scores"]["frechet_distance"] == clean


def test_folders_have_no_robustness(aigc, folder):
    done = aigc("evaluate", "--fake", "a", "--real", "b", "--metrics", "robustness")
    assert done.code == 2 and "score of models" in done.err and len(done.lines) <= 4
