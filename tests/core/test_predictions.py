from typing import Any

import pytest
import torch
from conditional_models import Filler, Painter

from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.predictions import edited
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.models.cnn import CNN

SPEC = ImageSpec(3, 8, 8, ("a", "b"), captions=True, masks=True)


def batch(**more: Any) -> dict[str, Any]:
    images = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.zeros(3, 1, 8, 8)
    mask[..., :4] = 1
    return {"image": images, "mask": mask, "index": torch.tensor([5, 2, 9]), **more}


def test_edits_get_the_masks_references_and_captions_of_a_batch():
    model, given = Filler(SPEC), batch(caption=["one", "two", "three"], reference=torch.ones(3, 3, 8, 8) / 2)
    expected = model.edit(given["image"], given["mask"], given["reference"], given["caption"])
    assert torch.equal(edited(model, given), expected) and torch.equal(model.predict_step(given, 0), expected)  # type: ignore[arg-type]
    assert torch.equal(edited(model, batch()), model.edit(batch()["image"], batch()["mask"]))


def test_a_missing_field_is_named():
    given = batch()
    del given["mask"]
    with pytest.raises(UserError, match="Filler needs masks to edit"):
        edited(Filler(SPEC), given)


def test_samples_show_the_captions_of_the_batch():
    model = Painter(SPEC).eval()
    found = model.predict_step(batch(caption=["x", "y", "z"]), 0)
    assert found is not None and torch.equal(found, sampled(model, [5, 2, 9], prompts=["x", "y", "z"]))


class Embedding(ImageModel):
    def embed(self, images):
        return images.mean((2, 3))


class SamplingEditor(Embedding):
    def sample(self, seeds):
        return torch.zeros(len(seeds), *self.spec.shape)

    def edit(self, images):
        return -images


@pytest.mark.parametrize(
    ("task", "key", "expected"), [("generation", "image", 0), ("paired", "source", -1), ("restoration", "degraded", -1)]
)
def test_the_task_decides_where_a_model_both_samples_and_edits(task, key, expected):
    given = {key: torch.ones(2, 3, 8, 8), "index": torch.arange(2)}
    found = SamplingEditor(ImageSpec(3, 8, 8, task=task)).predict_step(given, 0)
    assert found is not None and found.unique().tolist() == [expected]


def test_a_model_that_neither_samples_nor_edits_classifies_or_embeds():
    images = batch()["image"]
    found = Embedding(SPEC).predict_step(batch(), 0)
    assert found is not None and torch.equal(found, images.mean((2, 3)))
    classifier = CNN(SPEC, width=8)
    assert torch.equal(classifier.predict_step(batch(), 0), classifier.classify(images))  # type: ignore[arg-type]
