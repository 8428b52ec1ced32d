"""What a model does on training images beside what it does on held-out ones.

Shapes: N images, D features, K classes.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from torch import Tensor

from aigc_lightning.core.capabilities import LatentGenerator
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.generation import Judge
from aigc_lightning.evaluation.image_sets import DataImages, ImageSet
from aigc_lightning.evaluation.membership_scores import losses_of
from aigc_lightning.evaluation.path_length_scores import smoothness_of
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.scores import predicted_counts
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.shares import class_coverage


def loss_generalisation(
    model: ImageModel,
    seen: DataImages,
    unseen: DataImages,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Section:
    """Return a model's mean loss on training and on held-out images, and the gap between both.

    Args:
        model: with a loss per image, such as a likelihood; see `membership_scores.has_losses`.
        seen: training images.
        unseen: held-out images.
        options: of the model's `log_likelihood`.
        progress: shows progress.

    Raises:
        UserError: the model has no loss per image.
    """
    name, of_seen = losses_of(model, seen, options or {}, progress)
    _, of_unseen = losses_of(model, unseen, options or {}, progress)
    scores = {
        "training_loss": float(of_seen.mean()),
        "held_out_loss": float(of_unseen.mean()),
        "generalisation_gap": float(of_unseen.mean() - of_seen.mean()),
    }
    if min(len(of_seen), len(of_unseen)) > 1:
        scores["generalisation_gap_stderr"] = sqrt(_variance(of_seen) + _variance(of_unseen))
    return _section(scores, seen, unseen, {"loss": name}, {})


def sample_generalisation(model: ImageModel, judge: Judge, fake: ImageSet, seen: ImageSet, unseen: ImageSet) -> Section:
    """Return the Frechet distance of samples to training and to held-out images, and properties of what is generated.

    These are the smoothness of interpolations, for models with latents, and the share of the classes that occur among
    the samples, if the judge knows classes.

    Args:
        model: made the samples.
        judge: computes features.
        fake: the samples.
        seen: training images.
        unseen: as many held-out images: at another number, the bias of the distance would be another.

    Raises:
        UserError: the numbers of training and held-out images differ.
    """
    if len(seen) != len(unseen):
        raise UserError(f"There are {len(seen)} training and {len(unseen)} held-out images.", "Give equal numbers.")
    of_fake = judge.describe(fake, fake.name)
    of_seen, of_unseen = (judge.describe_real(images, images.name)[0] for images in (seen, unseen))
    near, far = (frechet_distance(bank.moments, of_fake.moments) for bank in (of_seen, of_unseen))
    scores = {
        "training_frechet_distance": near,
        "held_out_frechet_distance": far,
        "generalisation_gap": far - near,
    }
    left_out = {}
    if isinstance(model, LatentGenerator):
        scores["interpolation_smoothness"] = smoothness_of(model, judge.extractor)
    else:
        left_out["interpolation_smoothness"] = "The model has no latents."
    if judge.extractor.class_names and of_fake.logits is not None:
        scores["class_coverage"] = class_coverage(predicted_counts(of_seen), predicted_counts(of_fake))
    else:
        left_out["class_coverage"] = "It needs an extractor with named classes, such as a run of a classifier."
    protocol = {"extractor": judge.extractor.fingerprint, "num_fake": len(fake)}
    return _section(scores, seen, unseen, protocol, left_out)


def _section(
    scores: dict[str, float], seen: ImageSet, unseen: ImageSet, protocol: dict[str, Any], left_out: dict[str, str]
) -> Section:
    numbers = {"num_training": len(seen), "num_held_out": len(unseen)}
    reference = {"reference": f"{seen.fingerprint()} {unseen.fingerprint()}"}
    subject = {"training": seen.name, "held_out": unseen.name}
    return Section("generalisation", scores, {**protocol, **numbers, **reference}, {}, "", {}, subject, left_out)


def _variance(losses: Tensor) -> float:
    """Return the variance of the mean."""
    return float(losses.var()) / len(losses)
