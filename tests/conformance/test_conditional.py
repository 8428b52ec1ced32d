"""The kit on models that take classes, prompts, masks and references, and on models that only say so."""

from typing import Any

import conditional_models
import pytest
import torch

from aigc_lightning.core import keyed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.testing import condition_checks, data_checks
from aigc_lightning.testing.cases import DataCase, ModelCase
from aigc_lightning.testing.catalogue import MODEL_CHECKS
from aigc_lightning.testing.checks import Check, CheckFailedError, NotApplicableError
from aigc_lightning.testing.noise import NoiseImages

CONFIG = """
model: {{class_path: {model}}}
data:
  class_path: aigc_lightning.testing.noise.NoiseImages
  init_args:
    {{height: 16, width: 16, num_classes: {classes}, captions: true, masks: true, scale: {scale}, task: {task}}}
"""


@pytest.fixture
def case(conditional, folder):
    """Return a function that returns a case of one of the models, trained on noise."""

    def made(model: str, classes: int = 3, task: str = "generation", scale: int = 1) -> ModelCase:
        config = folder / f"{model}.yaml"
        config.write_text(CONFIG.format(model=model, classes=classes, task=task, scale=scale))
        (folder / "kit").mkdir()
        return ModelCase("model", model, folder / "kit", (), str(config))

    return made


def passes(check: Check, case: ModelCase) -> str:
    """Return "" if a check passes, or why it does not apply."""
    try:
        check.run(case)
    except NotApplicableError as reason:
        return str(reason)
    return ""


#: Looks the model up in another process, which does not know the folder of these tests.
_ELSEWHERE = ("resolves_without_torch",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "task", "scale"),
    [("painter", "generation", 1), ("filler", "generation", 1), ("doubler", "restoration", 2)],
)
def test_models_with_conditions_conform(case, model, task, scale):
    made = case(model, task=task, scale=scale)
    checks = [check for check in MODEL_CHECKS if not check.slow and check.name not in _ELSEWHERE]
    skipped = {check.name: reason for check in checks if (reason := passes(check, made))}
    expected = {"keeps_its_averages", "computes_log_likelihoods", "embeds_texts", "maps_its_attention"}
    expected |= {"encodes_and_decodes", "inverts_images", "looks_at_words"}
    expected |= {"keeps_what_masks_leave_out"} if model != "filler" else set()
    expected |= {"obeys_what_it_takes"} if model == "doubler" else set()
    assert skipped.keys() - {"can_be_exported", "exports_what_it_promises"} == expected


def test_conditions_have_an_effect(case):
    made = case("painter")
    condition_checks.obeys_what_it_takes(made)
    condition_checks.predicts(made)


PLAIN: dict[str, Any] = {"sample": conditional_models.Painter.sample, "edit": conditional_models.Filler.edit}


def without_labels(self: Any, seeds: Any, labels: Any = None, prompts: Any = None) -> Any:
    return PLAIN["sample"](self, seeds, None, prompts)


def without_prompts(self: Any, seeds: Any, labels: Any = None, prompts: Any = None) -> Any:
    return PLAIN["sample"](self, seeds, labels)


def without_references(self: Any, images: Any, masks: Any, references: Any = None, prompts: Any = None) -> Any:
    return PLAIN["edit"](self, images, masks, None, prompts)


@pytest.mark.parametrize(
    ("model", "method", "deaf", "message"),
    [
        ("Painter", "sample", without_labels, "Another class gives the same result: `labels` of sample"),
        ("Painter", "sample", without_prompts, "Another prompt gives the same result: `prompts` of sample"),
        ("Filler", "edit", without_references, "Another reference gives the same result: `references` of edit"),
    ],
)
def test_a_condition_without_an_effect_is_found(case, monkeypatch, model, method, deaf, message):
    monkeypatch.setattr(getattr(conditional_models, model), method, deaf)
    with pytest.raises(CheckFailedError, match=message):
        condition_checks.obeys_what_it_takes(case(model.lower()))


def test_a_broken_promise_about_masks_is_found(case, monkeypatch):
    made = case("filler")
    condition_checks.keeps_what_masks_leave_out(made)
    plain = conditional_models.Filler.edit

    def spreading(self, images, masks, references=None, prompts=None):
        return plain(self, images, torch.ones_like(masks), references, prompts)

    monkeypatch.setattr(conditional_models.Filler, "edit", spreading)
    with pytest.raises(CheckFailedError, match="Pixels that the mask leaves out change"):
        condition_checks.keeps_what_masks_leave_out(made)


def noise_case(folder, *settings: str) -> DataCase:
    return DataCase("data", "noise", folder, ("data.height=8", "data.width=8", *settings))


@pytest.mark.parametrize(
    "settings", [("data.captions=true", "data.masks=true"), ("data.task=restoration", "data.scale=2")], ids=str
)
def test_noise_has_what_its_spec_says(folder, settings, monkeypatch):
    made = noise_case(folder, *settings)
    monkeypatch.setattr(DataCase, "target", NoiseImages)
    data_checks.gives_keyed_batches(made)
    spec = made.build().spec
    assert (spec.captions, spec.masks, spec.scale) in ((True, True, 1), (False, False, 2))


class Masked(ImageDataModule):
    """Noise with masks whose white is a given level; the spec may be silent about them."""

    white, said = 255, True

    def __init__(self, batch_size: int = 4, num_workers: int = 0, augmentation: Augment | None = None) -> None:
        super().__init__(batch_size, num_workers, augmentation)

    @property
    def spec(self) -> ImageSpec:
        return ImageSpec(3, 12, 12, masks=self.said)

    def train_source(self) -> Any:
        return self

    val_source = train_source

    def __len__(self) -> int:
        return 8

    def fields(self, visits: Any) -> dict[str, Any]:
        images = torch.randint(256, (len(visits.indices), 3, 12, 12), generator=keyed.generator(0), dtype=torch.uint8)
        mask = torch.zeros(len(images), 1, 12, 12, dtype=torch.uint8)
        mask[:, :, 2:7, 3:9] = self.white
        return {"image": images, "mask": mask}

    def labels(self, indices: Any) -> None:
        return None


class Dim(Masked):
    white = 1


class Silent(Masked):
    said = False


def test_masks_of_data_are_checked(folder, monkeypatch):
    made = DataCase("data", "masked", folder)
    monkeypatch.setattr(DataCase, "target", Masked)
    data_checks.gives_keyed_batches(made)
    data_checks.keeps_masks_as_they_are(made)
    for target, message in {Dim: "Sources give uint8 masks with 0 and 255", Silent: "masks=False"}.items():
        monkeypatch.setattr(DataCase, "target", target)
        with pytest.raises(CheckFailedError, match=message):
            data_checks.gives_keyed_batches(made)
