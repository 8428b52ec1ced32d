"""Bits per dimension of models whose likelihoods are known."""

from collections.abc import Sequence
from math import log, sqrt
from typing import Any

import pytest
from torch import Tensor

from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.likelihood_scores import score_likelihood
from aigc_lightning.evaluation.report import score_rows
from aigc_lightning.testing.noise import NoiseImages


class Told(ImageModel):
    """Remembers what it was given; an image has as many nats as its mean level."""

    likelihood_kind = "exact"

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.given: list[dict[str, Any]] = []

    def log_likelihood(
        self,
        images: Tensor,
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        *,
        steps: int = 5,
    ) -> Tensor:
        self.given.append({"labels": labels, "prompts": prompts, "seeds": seeds, "steps": steps})
        assert len(images) == 16  # padded
        return -(images.double().mean((1, 2, 3)) + 1) * 127.5


class Bound(Told):
    likelihood_kind = "lower_bound"


def noise(**options: Any) -> DataImages:
    return DataImages(NoiseImages(height=4, width=4, num_images=18, **options), "val")


def test_the_mean_and_its_error_are_those_of_the_images():
    images = noise()
    section = score_likelihood(Told(images.data.spec), images)
    bits = images.read(range(18))[0].double().mean((1, 2, 3)) / (48 * log(2))
    assert section.scores["bits_per_dim"] == pytest.approx(bits.mean().item())
    assert section.scores["bits_per_dim_stderr"] == pytest.approx(bits.std().item() / sqrt(18))
    assert section.protocol["num"] == 18 and section.protocol["conditions"] == "none"
    assert section.subject["options"] == {"steps": 5} and section.subject["likelihood"] == "exact"


def test_labels_captions_and_seeds_are_those_of_the_images():
    images = noise(num_classes=3, captions=True)
    model = Told(images.data.spec)
    section = score_likelihood(model, images, {"steps": 2})
    first, second = model.given
    assert first["labels"] == [index % 3 for index in range(16)] and second["labels"][:2] == [1, 2]
    assert first["prompts"][:2] == ["one circle", "two squares"] and first["steps"] == 2
    assert first["seeds"] == list(range(16)) and second["seeds"] == [16] + [17] * 15
    assert section.protocol["conditions"] == "labels, prompts" and section.subject["options"] == {"steps": 2}


def test_bounds_are_marked():
    images = noise()
    exact, bound = (score_likelihood(kind(images.data.spec), images) for kind in (Told, Bound))
    assert exact.scores == bound.scores
    assert score_rows(bound)[0][1] == f"≤ {score_rows(exact)[0][1]}" and score_rows(bound)[0][2] == "8"


def test_images_of_another_format_are_refused():
    with pytest.raises(UserError, match="images of 4x4 grey, but the data are 4x4 RGB"):
        score_likelihood(Told(ImageSpec(1, 4, 4)), noise())


def test_images_between_the_levels_are_refused():
    images = noise()
    plain = images.batch
    images.batch = lambda numbers: {**plain(numbers), "image": plain(numbers)["image"] * 0.9}  # type: ignore[method-assign]
    with pytest.raises(UserError, match="between the levels"):
        score_likelihood(Told(images.data.spec), images)


class NeedsLabels(Told):
    def log_likelihood(self, images: Tensor, labels: Sequence[int]) -> Tensor:  # type: ignore[override]
        return super().log_likelihood(images, labels)


def test_data_without_the_labels_that_a_model_needs_are_refused():
    images = noise()
    with pytest.raises(UserError, match="likelihoods by labels, which NoiseImages, val does not have"):
        score_likelihood(NeedsLabels(images.data.spec), images)
    labelled = noise(num_classes=2)
    assert score_likelihood(NeedsLabels(labelled.data.spec), labelled).protocol["conditions"] == "labels"
