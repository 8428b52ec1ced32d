"""The network of a `pixelcnn` or `pixelrnn` as exported programs, with the loop that draws pixels with it.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from aigc_lightning.core import exported_files
from aigc_lightning.core.export_graphs import ExportGraph, GraphInput, image_input, label_input
from aigc_lightning.core.export_loops import Example, ExportLoop
from torch import Tensor

from aigc_autoregressive import exported_noise, exported_pixels
from aigc_autoregressive.exporting import LIKELIHOODS, MOST_PASSES, too_many_passes
from aigc_autoregressive.levels import to_images, to_levels
from aigc_autoregressive.pixels.logistic_mixture import SMALLEST_LOG_SCALE
from aigc_autoregressive.pixels.pixelcnn import PixelCNN

if TYPE_CHECKING:
    from aigc_autoregressive.models.pixel_model import PixelModel

_SEEDS = [0, 1]  # whose images are compared with those of an exported program


def pixel_graphs(model: "PixelModel") -> dict[str, ExportGraph | str]:
    """Return `predict`, the distribution of each pixel by those before it, with the loop that draws them; and
    `log_likelihood`, of images.

    Args:
        model: to export.
    """
    network: Any = model.averaged("network")
    inputs = {"images": image_input(model, dynamic=False)}
    if model.num_classes:
        inputs["labels"] = label_input(model.num_classes)

    def log_likelihood(images: Tensor, labels: Tensor | None = None) -> Tensor:
        levels = to_images(to_levels(images, model.num_levels), model.num_levels)
        found: Tensor = network.log_prob(levels, labels).double().flatten(1).sum(1)
        return found

    likelihood = ExportGraph(model, log_likelihood, inputs, ("log_likelihoods",), meaning=LIKELIHOODS)
    graphs: dict[str, ExportGraph | str] = {"log_likelihood": likelihood}
    settings = _settings(model)
    passes = prod(model.spec.shape) if settings["num_components"] == 0 else model.spec.height * model.spec.width
    if passes > MOST_PASSES:
        return {**graphs, "sample": too_many_passes(passes)}
    meaning = "of the mixture of each pixel" if settings["num_components"] else "logits of the levels of each number"
    loop = _loop(model, settings, {"log_prob": _log_prob(model, inputs)} if model.num_classes else {})
    return {"predict": ExportGraph(model, network, inputs, ("parameters",), meaning=meaning, loop=loop), **graphs}


def _log_prob(model: "PixelModel", inputs: Mapping[str, GraphInput]) -> ExportGraph:
    """Return the program that tells how probable pixels are in a class, by those before them."""
    network: Any = model.averaged("network")

    def log_prob(images: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = network.log_prob(images, labels).double()
        return found

    return ExportGraph(
        model, log_prob, inputs, ("log_probs",), meaning="of each pixel by those before, in nats, float64"
    )


def _loop(model: "PixelModel", settings: dict[str, Any], programs: Mapping[str, ExportGraph]) -> ExportLoop:
    pictures = 2 * torch.rand(len(_SEEDS), *model.spec.shape, generator=torch.Generator().manual_seed(0)) - 1
    edit: Example = {"seeds": _SEEDS, "pictures": pictures.numpy()}, lambda: model.edit(pictures, seeds=_SEEDS)
    parts, sampled = (exported_files, exported_noise), (lambda: model.sample(_SEEDS))
    return ExportLoop(exported_pixels, settings, {"seeds": _SEEDS}, sampled, parts, [edit], programs)


def _settings(model: "PixelModel") -> dict[str, Any]:
    """Return what the loop has to know, as plain values."""
    network, channels = model.network, model.spec.channels
    mixture = network.mixture if isinstance(network, PixelCNN) else None
    return {
        "image_shape": list(model.spec.shape),
        "num_levels": model.num_levels,
        "num_components": 0 if mixture is None else mixture.num_components,
        "num_draws": channels * model.num_levels if mixture is None else mixture.num_draws,
        "least_log_scale": SMALLEST_LOG_SCALE,
        "num_classes": model.num_classes,
        "edits": "holes",
        "text_length": 0,
        "has_guidance": False,
    }
