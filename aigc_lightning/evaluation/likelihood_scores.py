"""The log-likelihoods that a model computes for held-out images, in bits per dimension.

Shapes: B batch, N images, C channels, H and W height and width in pixels.
"""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import LikelihoodModel, likelihood_kind, takes
from aigc_lightning.core.chunks import chunk_size, padded, padded_rows, parts
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.method_options import described_options
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.evaluation.receipt import Section
from aigc_lightning.evaluation.report_progress import Progress, silent
from aigc_lightning.evaluation.score_names import BITS_PER_DIM
from aigc_lightning.metrics.likelihood import bits_per_dim

#: The field of a batch that is given for a condition of `log_likelihood`.
_FIELDS = {"labels": "label", "prompts": "caption"}
_BITS_OF_LEVELS = 8.0


def score_likelihood(
    model: ImageModel, images: DataImages, options: Mapping[str, Any] | None = None, progress: Progress = silent
) -> Section:
    """Return the mean and the standard error of bits per dimension over images.

    Labels and captions are given to models that take them. The seed of an image is its index.

    Args:
        model: with the capability `log_likelihood`.
        images: 8-bit images of the model's format.
        options: of the model's `log_likelihood`, where they differ from its defaults.
        progress: shows progress.

    Raises:
        UserError: the images have another format, lack what the model needs, or have no likelihood under it.
    """
    assert isinstance(model, LikelihoodModel)
    options = options or {}
    nats, conditions = log_likelihoods(model, images, options, progress)
    bits = bits_per_dim(nats, prod(images.data.spec.shape))
    scores = {BITS_PER_DIM: float(bits.mean())}
    if len(bits) > 1:
        scores[f"{BITS_PER_DIM}_stderr"] = float(bits.std()) / sqrt(len(bits))
    protocol = {
        "num": len(bits),
        "reference": images.fingerprint(),
        "conditions": ", ".join(conditions) or "none",
        "levels": 256,
    }
    subject: dict[str, Any] = {"images": images.name, "likelihood": likelihood_kind(model)}
    subject |= described_options(model, "log_likelihood", options)
    if takes(model.log_likelihood, "seeds"):
        subject["seeds"] = "index of each image"
    baseline = {BITS_PER_DIM: _BITS_OF_LEVELS}
    return Section("likelihood", scores, protocol, baseline, "uniform over 256 levels", {}, subject)


def log_likelihoods(
    model: ImageModel, images: DataImages, options: Mapping[str, Any], progress: Progress = silent
) -> tuple[Tensor, list[str]]:
    """Return the log-likelihood of each image, float64 (N,) in nats, and the conditions that were given.

    Args:
        model: with the capability `log_likelihood`.
        images: 8-bit images of the model's format.
        options: of the model's `log_likelihood`, where they differ from its defaults.
        progress: shows progress.

    Raises:
        UserError: as `score_likelihood`.
    """
    assert isinstance(model, LikelihoodModel)
    spec, own = images.data.spec, model.spec
    if spec.shape != own.shape:
        raise UserError(
            f"{type(model).__name__} computes likelihoods of images of {own}, but the data are {spec}.",
            "Give data of that format.",
        )
    conditions = _conditions(model, images)
    return _nats(model, images, conditions, options, progress), conditions


def _conditions(model: LikelihoodModel, images: DataImages) -> list[str]:
    """Return the names of the conditions that a model takes and the data have.

    Raises:
        UserError: the data lack one that the model cannot do without.
    """
    spec, known = images.data.spec, getattr(model, "spec", None)
    has = {
        "labels": spec.num_classes > 0 and known is not None and spec.class_names == known.class_names,
        "prompts": spec.captions,
    }
    for name, present in has.items():
        parameter = signature(model.log_likelihood).parameters.get(name)
        if parameter is not None and parameter.default is Parameter.empty and not present:
            raise UserError(
                f"{type(model).__name__} computes likelihoods by {name}, which {images.name} does not have.",
                "Give the data that it was trained on.",
            )
    return [name for name, present in has.items() if present and takes(model.log_likelihood, name)]


def _nats(
    model: Any, images: DataImages, conditions: Sequence[str], options: Mapping[str, Any], progress: Progress
) -> Tensor:
    """Return the log-likelihood of each image, float64, computed in chunks of one size as sampling is."""
    size = chunk_size(model)
    found = []
    progress(images.name, len(images), 0)
    for part in parts(len(images), size):
        batch = images.batch([images.numbers[place] for place in part])
        given: dict[str, list[Any]] = {}
        for name in conditions:
            field = batch[_FIELDS[name]]
            given[name] = field.tolist() if isinstance(field, Tensor) else list(field)
        if takes(model.log_likelihood, "seeds"):
            given["seeds"] = batch["index"].tolist()
        asked = {name: padded(items, size) for name, items in given.items()}
        pixels = padded_rows(_of_levels(batch[images.field], images.name), size).to(model.device)
        found.append(model.log_likelihood(pixels, **asked, **options)[: len(part)].double().cpu())
        progress(images.name, len(images), len(part))
    return torch.cat(found)


def _of_levels(images: Tensor, name: str) -> Tensor:
    """Return images (B, C, H, W) at their levels exactly.

    Raises:
        UserError: their values lie between levels.
    """
    levels = to_uint8(images).to(images) / 127.5 - 1
    if not torch.allclose(levels, images, atol=1e-3):
        raise UserError(f"{name} has values between the levels of 8-bit images.", "Give data of 8-bit images.")
    return levels
