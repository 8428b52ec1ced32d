"""The perceptual path length of a model with latents."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import LatentGenerator
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.evaluation.assets import find_asset, lies_at
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.metrics.pairs import LPIPS
from aigc_lightning.metrics.path_length import perceptual_path_length
from aigc_lightning.metrics.resize import resize, to_channels

_PATHS = 1000


def path_length_of(model: ImageModel, extractor: Extractor) -> tuple[Callable[[], tuple[float, float]], str] | None:
    """Return what computes a model's perceptual path length, and its distance's name; None for models without latents.

    The distance is LPIPS where the weights of VGG are there, else the squared distance of the extractor's features.
    """
    if not isinstance(model, LatentGenerator):
        return None
    first, second = model.latents(range(_PATHS)), model.latents(range(_PATHS, 2 * _PATHS))
    known = lies_at("vgg16") is not None
    distance = _lpips(model) if known else partial(_feature_distance, extractor)
    compute = partial(perceptual_path_length, model.decode, first, second, distance)
    return compute, "LPIPS" if known else extractor.fingerprint


def _lpips(model: ImageModel) -> Callable[[Tensor, Tensor], Tensor]:
    network = LPIPS(find_asset("vgg16")).to(model.device)

    @torch.no_grad()
    def distance(images: Tensor, others: Tensor) -> Tensor:
        return network(images.add(1).div(2), others.add(1).div(2))

    return distance


def _feature_distance(extractor: Extractor, images: Tensor, others: Tensor) -> Tensor:
    channels, height, width = extractor.shape

    def features(signed: Tensor) -> Tensor:  # of what is not rounded to grey levels: steps of a path are small
        pixels = to_channels(signed.float().add(1).mul(127.5).to(extractor.device), channels)
        return extractor.describe(resize(pixels, (height, width), extractor.resize), with_logits=False).features

    return (features(images) - features(others)).square().sum(1)
