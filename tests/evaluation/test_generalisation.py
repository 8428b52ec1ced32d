"""Training images beside held-out ones, smoothness of interpolations and coverage of classes."""

import json

import pytest
import torch

from aigc_lightning.metrics.path_length import interpolation_smoothness
from aigc_lightning.metrics.shares import class_coverage


def squared(images, others):
    return (images - others).square().flatten(1).sum(1)


def test_even_steps_are_smooth_and_jumps_are_not():
    first, second = torch.zeros(5, 3), torch.ones(5, 3)
    smooth = interpolation_smoothness(lambda latents: latents, first, second, squared, straight=True, steps=8)
    assert smooth == pytest.approx(1, abs=1e-5)
    jump = interpolation_smoothness(lambda latents: (latents > 0.6).float(), first, second, squared, straight=True)
    assert jump == pytest.approx(1 / 16)
    still = interpolation_smoothness(lambda latents: 0 * latents, first, second, squared, straight=True)
    assert still == 1


def test_a_class_counts_as_covered_from_a_tenth_of_its_share():
    real = torch.tensor([50, 50, 100, 0])
    assert class_coverage(real, torch.tensor([25, 25, 50, 0])) == 1
    assert class_coverage(real, torch.tensor([0, 10, 990, 0])) == pytest.approx(1 / 3)
    assert class_coverage(real, torch.tensor([50, 50, 0, 100])) == pytest.approx(2 / 3)


def section(path):
    return json.loads(path.read_text())["sections"][0]


def test_a_classifier_has_a_gap_of_its_losses(aigc, judge, folder):
    done = aigc("evaluate", judge, "--metrics", "generalisation", "--out", "e")
    assert done.code == 0 and "Generalisation gap" in done.out, done.err
    scores = section(folder / "e" / "scores.json")["scores"]
    gap = scores["held_out_loss"] - scores["training_loss"]
    assert scores["generalisation_gap"] == pytest.approx(gap) and scores["generalisation_gap_stderr"] > 0


def test_a_generator_has_a_gap_of_distances(aigc, trained, judge, folder):
    options = ("--metrics", "generalisation", "--extractor", judge, "--num", 100)
    done = aigc("evaluate", trained, *options, "--out", "e")
    assert done.code == 0, done.err
    scores = section(folder / "e" / "scores.json")["scores"]
    assert scores["training_frechet_distance"] > 0 and scores["held_out_frechet_distance"] > 0
    assert 0 < scores["interpolation_smoothness"] <= 1 and 0 <= scores["class_coverage"] <= 1
    done = aigc("evaluate", trained, *options, "--part", "train")
    assert done.code == 2 and "not seen" in done.err and len(done.lines) <= 4
