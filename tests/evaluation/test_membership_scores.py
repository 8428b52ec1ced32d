"""Which loss of an image tells members from others, and what it tells of models that know their members."""

from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.membership_scores import has_losses, score_membership
from aigc_lightning.testing.noise import NoiseImages


def sides(num: int = 60, **options: Any) -> tuple[DataImages, DataImages]:
    data = NoiseImages(height=4, width=4, num_images=2 * num, **options)
    return DataImages(data, "train"), DataImages(data, "val", numbers=range(num // 2))


class Forgetful(ImageModel):
    """Its loss is the image's mean, which says nothing about membership."""

    monitor = "val/error"

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_held_out("psnr", torch.zeros(len(batch["image"])))
        self.log_held_out("error", self.error(batch["image"]))

    def error(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))


class Memorising(Forgetful):
    """Knows the images that it was given by heart."""

    def __init__(self, spec: ImageSpec, known: Tensor | None = None) -> None:
        super().__init__(spec)
        self.known = known

    def error(self, images: Tensor) -> Tensor:
        assert self.known is not None
        return torch.cdist(images.flatten(1), self.known.flatten(1)).min(1).values


class Explicit(ImageModel):
    likelihood_kind = "exact"

    def log_likelihood(self, images: Tensor) -> Tensor:
        return -images.double().mean((1, 2, 3))


class Blind(ImageModel):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_held_out("psnr", torch.zeros(len(batch["image"])))


class Judge(ImageModel):
    def classify(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, : self.spec.num_classes]


def memorising(members: DataImages) -> Memorising:
    return Memorising(members.data.spec, members.batch(members.numbers)["image"])


def test_a_model_that_knows_its_images_gives_all_of_them_away():
    members, others = sides()
    section = score_membership(memorising(members), members, others)
    assert section.scores == {"membership_auc": 1, "membership_auc_stderr": 0, "membership_true_positives": 1}
    assert section.protocol["loss"] == "error" and section.protocol["num_members"] == len(members)
    assert 0.2 < section.baseline["membership_auc"] < 0.8  # held-out images against held-out ones


def test_a_model_that_was_not_trained_on_either_side_tells_nothing():
    members, others = sides(400)
    model = Forgetful(members.data.spec)
    section, swapped = score_membership(model, members, others), score_membership(model, others, members)
    low, high = map(float, section.subject["interval_of_95_percent"].split(" to "))
    assert low < 0.5 < high and high - low < 0.2
    assert section.scores["membership_auc"] + swapped.scores["membership_auc"] == pytest.approx(1)


def test_classifiers_have_a_cross_entropy_and_likelihood_models_a_likelihood():
    members, others = sides(num_classes=3)
    section = score_membership(Judge(members.data.spec), members, others)
    assert section.protocol["loss"] == "cross entropy"
    section = score_membership(Explicit(members.data.spec), members, others)
    assert section.protocol["loss"] == "negative log-likelihood"


def test_a_model_without_losses_of_images_is_refused():
    members, others = sides()
    assert has_losses(Forgetful(members.data.spec), others)
    for model in (Blind(members.data.spec), ImageModel(members.data.spec)):
        assert not has_losses(model, others)
        with pytest.raises(UserError, match="no loss of single images"):
            score_membership(model, members, others)


def test_recording_leaves_the_model_as_it_was():
    members, others = sides()
    model = memorising(members)
    score_membership(model, members, others)
    assert "log_held_out" not in vars(model) and not any(model._held_out.values())
