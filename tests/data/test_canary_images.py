"""Canaries among training images, and what a model that memorises them gives away."""

from typing import Any

import pytest
import torch

from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.data.canary_images import CanaryImages
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.membership_scores import canaries_of, score_membership


def test_canaries_follow_the_training_images_and_are_the_same_in_every_run():
    plain, data = Digits(size=8).train_source(), CanaryImages(Digits(size=8), canaries=5)
    source = data.train_source()
    assert len(source) == len(plain) + 5 and len(data.val_source()) == len(Digits(size=8).val_source())
    mixed = [len(plain) + 3, 2, len(plain), 7]
    images, labels, of_plain = source.images(mixed), source.labels(mixed), plain.labels([2, 7])
    assert labels is not None and of_plain is not None and (images[[1, 3]] == plain.images([2, 7])).all()
    assert labels[[1, 3]].tolist() == of_plain.tolist() and 0 <= labels.min() <= labels.max() < 10
    again = CanaryImages(Digits(size=8), canaries=9).train_source().images([len(plain) + 3])
    assert (again == images[:1]).all() and not (images[0] == images[2]).all()
    assert images[0].float().std() > 60  # noise


def test_unplanted_canaries_are_others():
    data = CanaryImages(Digits(size=8), canaries=5)
    found = canaries_of(data)
    assert found is not None and canaries_of(Digits(size=8)) is None
    planted, others = (images.read(images.numbers)[0] for images in found)
    assert len(planted) == len(others) == 5
    assert not any((one == other).all() for one in planted for other in others)


class Parrot(ImageModel):
    """Has a low loss on the images that it was given."""

    def __init__(self, spec: Any, known: torch.Tensor) -> None:
        super().__init__(spec)
        self.known = known

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_held_out("error", torch.cdist(batch["image"].flatten(1), self.known).min(1).values)


def test_a_model_that_has_memorised_the_canaries_is_found_out():
    data = CanaryImages(Digits(size=8), canaries=5)
    canaries = canaries_of(data)
    assert canaries is not None
    sides = DataImages(data, "val", numbers=range(40)), DataImages(data, "val", numbers=range(40, 80))
    parrot = Parrot(data.spec, canaries[0].batch(canaries[0].numbers)["image"].flatten(1))
    section = score_membership(parrot, *sides, canaries=canaries)
    assert section.scores["canary_auc"] == 1 and section.protocol["canaries"] == 5
    assert 0.2 < section.scores["membership_auc"] < 0.8
    assert "canary_auc" not in score_membership(parrot, *sides).scores


def test_other_data_and_too_few_canaries_are_refused():
    with pytest.raises(UserError, match="single images"):
        _ = CanaryImages(Shapes(task="paired")).spec
    with pytest.raises(UserError, match="single images"):
        _ = CanaryImages(Shapes()).spec  # with captions
    with pytest.raises(UserError, match=r"data.canaries is 1"):
        CanaryImages(canaries=1)
