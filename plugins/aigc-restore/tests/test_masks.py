"""Masks are functions of their keys, of the size asked for, and the data with them keep the kit's promises."""

import pytest
import torch
from aigc_lightning import UserError
from aigc_lightning.data.degraded_images import DegradedImages
from aigc_lightning.data.sets.photos import Photos
from aigc_lightning.testing import DataConformance

from aigc_restore.data.masked_images import MaskedImages
from aigc_restore.data.masks import random_mask

KINDS = ["irregular", "box", "outpainting", "text"]


class TestMaskedImages(DataConformance):
    data = "masked_images"
    settings = (
        "data.data={class_path: photos, init_args: {size: 16, num_train: 20}}",
        "data.kinds=[irregular, box, outpainting, text]",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_masks_have_about_the_share_asked_for_and_depend_on_their_keys(kind):
    for share in (0.05, 0.4):
        masks = torch.stack([random_mask(kind, 64, 80, share, 3, number) for number in range(20)])
        assert masks.shape == (20, 1, 64, 80) and set(masks.unique().tolist()) == {0, 255}
        assert share - 0.05 < masks.float().mean() / 255 < share + 0.12
        assert torch.equal(masks[7], random_mask(kind, 64, 80, share, 3, 7))
        assert len(masks.unique(dim=0)) >= (4 if kind == "outpainting" else 19)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.001, 0.999])
def test_no_hole_is_empty_or_everything(kind, share):
    mask = random_mask(kind, 4, 3, share, 0)
    assert mask.any() and not mask.all()


def test_a_box_is_a_rectangle_and_outpainting_is_one_side():
    rows, columns = (random_mask("box", 40, 40, 0.2, 1)[0] > 0).nonzero().T
    assert (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) == len(rows)
    side = random_mask("outpainting", 40, 40, 0.25, 1)[0] > 0
    assert side.sum() == 400 and (side.all(0).sum() == 10 or side.all(1).sum() == 10)


def test_degraded_images_are_grey_in_their_holes():
    batch = next(iter(MaskedImages(Photos(size=16, num_train=8), batch_size=8).train_dataloader()))
    hole = (batch["mask"] > 0).expand_as(batch["image"])
    assert len(batch["degraded"][hole].unique()) == 1 and abs(batch["degraded"][hole].mean()) < 0.01
    assert torch.equal(batch["degraded"][~hole], batch["image"][~hole])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedImages(kinds=["star"]), "star"),
        (lambda: MaskedImages(share=(0.5, 0.2)), "data.share"),
        (lambda: MaskedImages(share=(0.5, 1.0)), "data.share"),
        (lambda: MaskedImages(DegradedImages()).spec, "restoration"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
