"""Near duplicates in data: mirrored and cropped images, within and across the parts."""

import json

import pytest
import torch
from torch import nn

from aigc_lightning.commands.data import near
from aigc_lightning.commands.data.near import near_duplicates
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractor import Extractor, Features


class Coarse(Extractor):
    """Embeds an image as its coarse shapes."""

    def __init__(self):
        super().__init__(
            nn.Identity(), name="coarse", weights_hash="0" * 64, shape=(3, 8, 8), resize="clean", num_features=192
        )

    def _describe(self, pixels, with_logits):
        return Features(pixels.flatten(1) - 127.5, None)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(near, "find_extractor", lambda name: Coarse())


def picture(seed):
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    return nn.functional.interpolate(coarse, (40, 40), mode="bicubic")[0].clamp(0, 255).byte()


class Pictures(ImageDataModule):
    """Sixty pictures, and three held-out ones: a new one, a mirrored one and a copy."""

    @property
    def spec(self):
        return ImageSpec(3, 40, 40)

    def train_source(self):
        cropped = nn.functional.interpolate(picture(8)[None, :, 6:, 6:].float(), (40, 40), mode="bicubic")
        return ArraySource(torch.stack([*map(picture, range(60)), cropped[0].clamp(0, 255).byte()]), None)

    def val_source(self):
        return ArraySource(torch.stack([picture(700), picture(5).flip(2), picture(3)]), None)


def test_changed_copies_are_found_and_those_across_parts_come_first():
    found = near_duplicates(Pictures(), 100, "coarse", [["train/3", "val/2"]])
    pairs = [frozenset(row[:2]) for row in found["near"]]
    assert pairs == [frozenset({"train/5", "val/1"}), frozenset({"train/8", "train/60"})]
    assert found["near_over_parts"] == 1 and found["near"][0][2] == "mirrored"
    assert all(0 <= row[3] < found["near_threshold"] for row in found["near"])
    unknown = near_duplicates(Pictures(), 100, "coarse")
    assert frozenset(unknown["near"][0][:2]) == frozenset({"train/3", "val/2"}) and unknown["near"][0][3] < 1e-6


def test_pairs_of_images_are_refused(aigc, folder):
    done = aigc("data", "check", "shapes", "--data.task", "paired", "--embedder", "coarse", "--num", 5)
    assert done.code == 2 and "Leave --embedder out" in done.err and len(done.lines) <= 4


def test_too_few_images_have_no_threshold():
    with pytest.raises(UserError, match="no threshold"):
        near_duplicates(Pictures(), 5, "coarse")


def test_the_command_reports_them(aigc, folder):
    done = aigc("data", "check", "digits", "--embedder", "coarse", "--num", 60)
    assert done.code in (0, 1) and "\nnear     " in done.out, done.err
    done = aigc("data", "check", "digits", "--embedder", "coarse", "--num", 60, "--json")
    assert set(json.loads(done.out)) >= {"near", "near_over_parts", "near_threshold", "equal", "overlap"}
    assert "near" not in json.loads(aigc("data", "check", "digits", "--num", 60, "--json").out)
