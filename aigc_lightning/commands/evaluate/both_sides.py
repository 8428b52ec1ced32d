"""The scores `robustness`, `generalisation` and `membership_auc` of `aigc evaluate`, which change or compare data."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aigc_lightning.commands.evaluate.evaluation import FIELDS, Evaluation
from aigc_lightning.core.capabilities import Classifier, Editor, Generator
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.generalisation import loss_generalisation, sample_generalisation
from aigc_lightning.evaluation.image_sets import DataImages, Part, chosen
from aigc_lightning.evaluation.membership_scores import canaries_of, has_losses, score_membership
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.references import MOST, reference_of, samples_like
from aigc_lightning.evaluation.report import Picture
from aigc_lightning.evaluation.robustness import (
    classifier_robustness,
    draw_curves,
    editor_robustness,
    sample_robustness,
)
from aigc_lightning.evaluation.score_names import GAP

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


def add_generalisation(
    evaluation: Evaluation,
    model: ImageModel,
    data: ImageDataModule,
    of_likelihood: Mapping[str, Any],
    of_sample: Mapping[str, Any],
) -> None:
    """Add a model's loss, or the distance of its samples, on training images beside held-out ones.

    Args:
        evaluation: gets the sections.
        model: with a loss per image or, on data for generation, with samples.
        data: the dataset.
        of_likelihood: values of the options of its `log_likelihood`.
        of_sample: values of the options of its `sample`.

    Raises:
        UserError: the training images are to be on both sides.
    """
    options = evaluation.options
    if options.part == "train":
        raise UserError("--part train leaves no images that the model has not seen.", "Give val or test.")
    seen, unseen = DataImages(data, "train"), DataImages(data, options.part or "val")
    count = min(options.num or MOST, len(seen), len(unseen))
    seen, unseen = (images.subset(chosen(len(images), count)) for images in (seen, unseen))
    section = None
    if has_losses(model, unseen):
        section = loss_generalisation(model, seen, unseen, of_likelihood, evaluation.progress)
    if isinstance(model, Generator) and data.spec.task == "generation" and (options.extractor or section is None):
        fake = samples_like(seen, model, count, options.seed, of_sample)
        judged = sample_generalisation(model, evaluation.judge(), fake, seen, unseen)
        section = judged if section is None else _joined(section, judged)
    if section is None:
        what = f"{type(model).__name__} has neither a loss of single images nor samples."
        raise UserError(what, "Leave generalisation out of --metrics.")
    evaluation.sections.append(section)


def add_membership(
    evaluation: Evaluation, model: ImageModel, data: ImageDataModule, of_likelihood: Mapping[str, Any]
) -> None:
    """Add how well the model's losses tell its training images from held-out ones.

    Args:
        evaluation: gets the section.
        model: with a loss per image.
        data: the dataset.
        of_likelihood: values of the options of its `log_likelihood`.

    Raises:
        UserError: the training images are to be on both sides.
    """
    options = evaluation.options
    if options.part == "train":
        raise UserError("--part train leaves no images that the model has not seen.", "Give val or test.")
    canaries = canaries_of(data)
    planted = len(canaries[0]) if canaries else 0  # the last of the training images
    members, others = DataImages(data, "train"), DataImages(data, options.part or "val")
    members = members.subset(members.numbers[: len(members) - planted])
    seen, unseen = (images.subset(chosen(len(images), options.num or MOST)) for images in (members, others))
    evaluation.sections.append(score_membership(model, seen, unseen, of_likelihood, evaluation.progress, canaries))


def _joined(losses: Section, samples: Section) -> Section:
    """Return one section of both; the gap is that of the losses."""
    scores = {name: value for name, value in samples.scores.items() if name != GAP}
    return replace(
        losses,
        scores={**losses.scores, **scores},
        protocol={**samples.protocol, **losses.protocol},
        left_out=samples.left_out,
    )
