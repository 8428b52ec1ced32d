"""The score `robustness` of `aigc evaluate`."""

from collections.abc import Mapping
from typing import Any

from aigc_lightning.commands.evaluate.evaluation import FIELDS, Evaluation
from aigc_lightning.core.capabilities import Classifier, Editor
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.evaluation.image_sets import DataImages, Part, chosen
from aigc_lightning.evaluation.references import MOST, reference_of, samples_like
from aigc_lightning.evaluation.report import Picture
from aigc_lightning.evaluation.robustness import (
    classifier_robustness,
    draw_curves,
    editor_robustness,
    sample_robustness,
)

#: Title of the picture that is also written to a file.
CURVES = "Robustness"


def add_robustness(evaluation: Evaluation, model: ImageModel, data: ImageDataModule, own: Mapping[str, Any]) -> None:
    """Add the scores of a classifier, an editor or a generator with corrupted images, and their curves.

    Args:
        evaluation: gets the section and the picture.
        model: what it is judged as is the first of these three that it is, and that the data's task allows.
        data: the dataset.
        own: values of the options of the model's own method.
    """
    options, task = evaluation.options, data.spec.task
    edits = not isinstance(model, Classifier) and isinstance(model, Editor) and task in FIELDS
    if isinstance(model, Classifier) or edits:
        source, target = FIELDS[task] if edits else ("image", "image")
        part: Part = options.part or ("val" if edits else "test")
        whole = DataImages(data, part, source)
        images = whole.subset(chosen(len(whole), options.num or MOST))
        if edits:
            targets = DataImages(data, part, target, images.numbers)
            found = editor_robustness(model, images, targets, own, evaluation.progress)
        else:
            found = classifier_robustness(model, images, evaluation.progress)
    else:
        reference = reference_of(data, options.part or "train", options.num).images
        fake = samples_like(reference, model, options.num, options.seed, own)
        found = sample_robustness(evaluation.judge(), fake, reference)
    evaluation.sections.append(found.section)
    evaluation.pictures.append(Picture(draw_curves(found.curves), CURVES, "Scores by severity of each corruption."))
