"""How much a model's losses reveal about which images it was trained on.

Shapes: B batch, N images, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from aigc_lightning.core import keyed
from aigc_lightning.core.capabilities import Classifier, LikelihoodModel
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.data.canary_images import CanaryImages
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.likelihood_scores import log_likelihoods
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.score_names import CANARY_AUC, MEMBERSHIP_AUC, MEMBERSHIP_TPR, is_better
from aigc_lightning.metrics.membership import Membership, membership

_FALSE_ALARMS = 0.01
_HALVES = 7  # key of the permutation that halves the held-out images


def score_membership(
    model: ImageModel,
    members: DataImages,
    others: DataImages,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    canaries: tuple[DataImages, DataImages] | None = None,
) -> Section:
    """Return how well the loss of an image tells whether the model was trained on it.

    The baseline is the same for two halves of the held-out images, neither of which the model has seen.

    Args:
        model: with a loss per image: a classifier's cross entropy, a value that its `validation_step` records, or a
            negative log-likelihood.
        members: images that the model was trained on.
        others: images from the same source that it has not seen.
        options: of the model's `log_likelihood`.
        progress: shows progress.
        canaries: planted ones, and others of their kind that were not planted.

    Raises:
        UserError: the model has no loss per image.
    """
    name, of_members = losses_of(model, members, options or {}, progress)
    _, of_others = losses_of(model, others, options or {}, progress)
    order = keyed.permutation(len(others), _HALVES)
    half = len(order) // 2
    found = membership(of_members, of_others, _FALSE_ALARMS)
    baseline = {}
    if half > 1:
        baseline = _scores(membership(of_others[order[:half]], of_others[order[half:]], _FALSE_ALARMS))
    scores = _scores(found)
    if canaries is not None:
        planted, unplanted = (losses_of(model, images, options or {}, progress)[1] for images in canaries)
        known = membership(planted, unplanted, _FALSE_ALARMS)
        scores |= {CANARY_AUC: known.auc, f"{CANARY_AUC}_stderr": known.stderr}
    protocol: dict[str, Any] = {
        "loss": name,
        "num_members": len(members),
        "num_others": len(others),
        "reference": f"{members.fingerprint()} {others.fingerprint()}",
        "false_alarms": _FALSE_ALARMS,
    }
    if canaries is not None:
        protocol["canaries"] = len(canaries[0])
    subject = {
        "members": members.name,
        "others": others.name,
        "interval_of_95_percent": f"{found.low:.4f} to {found.high:.4f}",
    }
    return Section("membership", scores, protocol, baseline, "two halves of the held-out", {}, subject)


def canaries_of(data: ImageDataModule) -> tuple[DataImages, DataImages] | None:
    """Return the canaries planted in the training images, and others that were not planted; None without canaries."""
    if not isinstance(data, CanaryImages):
        return None
    count = len(data.train_source())
    numbers = range(count - data.canaries, count)
    planted = DataImages(data, "train", numbers=numbers)
    return planted, DataImages(data, "train", numbers=numbers, source=data.unplanted_source())


def has_losses(model: ImageModel, images: DataImages) -> bool:
    """Return whether a model has a loss per image."""
    if isinstance(model, Classifier | LikelihoodModel):
        return True
    return _name_of_loss(model, images) is not None


def _scores(found: Membership) -> dict[str, float]:
    return {MEMBERSHIP_AUC: found.auc, f"{MEMBERSHIP_AUC}_stderr": found.stderr, MEMBERSHIP_TPR: found.true_positives}


def losses_of(
    model: ImageModel, images: DataImages, options: Mapping[str, Any], progress: Progress
) -> tuple[str, Tensor]:
    """Return the name of the loss, and its value for each image, float64 (N,).

    Raises:
        UserError: the model has none.
    """
    if isinstance(model, Classifier):
        return "cross entropy", _over(images, lambda batch: _cross_entropies(model, batch), progress)
    if name := _name_of_loss(model, images):
        return name.replace("_", " "), _over(images, lambda batch: _held_out_values(model, batch)[name], progress)
    if isinstance(model, LikelihoodModel):
        return "negative log-likelihood", -log_likelihoods(model, images, options, progress)[0]
    what = f"{type(model).__name__} has no loss of single images, by which its training images could be found."
    raise UserError(what, "Use --metrics copy_rate, which compares its samples with them.")


def _name_of_loss(model: ImageModel, images: DataImages) -> str | None:
    """Return the name of a value of held-out images that is lower for better models; None if there is none."""
    recorded = _held_out_values(model, images.batch(images.numbers[:2]))
    chosen = str(getattr(model, "monitor", None)).removeprefix("val/")  # which is lower for better models
    if chosen in recorded:
        return chosen
    return next((name for name in recorded if is_better(name) != "higher"), None)


def _over(images: DataImages, losses: Callable[[Mapping[str, Any]], Tensor], progress: Progress) -> Tensor:
    found = []
    progress(images.name, len(images), 0)
    for start in range(0, len(images), images.block):
        found.append(losses(images.batch(images.numbers[start : start + images.block])).double().cpu())
        progress(images.name, len(images), len(found[-1]))
    return torch.cat(found)


def _cross_entropies(model: Any, batch: Mapping[str, Any]) -> Tensor:
    with model.inference():
        logits = model.classify(batch["image"].to(model.device)).float()
        return cross_entropy(logits, batch["label"].to(model.device), reduction="none")


def _held_out_values(model: ImageModel, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what a model's `validation_step` records for each sample of a batch, by name."""
    moved = {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    with model.inference(), _recording(model) as recorded:
        model.validation_step(moved, 0)
    return recorded


@contextmanager
def _recording(model: ImageModel) -> Iterator[dict[str, Tensor]]:
    """Collect what is passed to a model's `log_held_out`, in place of the means that it would log."""
    recorded: dict[str, Tensor] = {}

    def record(name: str, values: Tensor) -> None:
        recorded[name] = values.detach()

    model.log_held_out = record  # type: ignore[method-assign]
    try:
        yield recorded
    finally:
        del model.log_held_out
