"""The perceptual path length of a model with latents."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import LatentGenerator, latent_spaces, num_sampled_classes
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.evaluation.assets import find_asset, lies_at
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.metrics.pairs import LPIPS
from aigc_lightning.metrics.path_length import interpolation_smoothness, perceptual_path_length
from aigc_lightning.metrics.resize import resize, to_channels

_PATHS, _FEW_PATHS = 1000, 64


class Paths(NamedTuple):
    """A function that computes mean and deviation of path lengths, and the settings that they depend on."""

    compute: Callable[[], tuple[float, float]]
    settings: dict[str, str]


def path_length_of(model: ImageModel, extractor: Extractor) -> Paths | None:
    """Return the computation of a model's perceptual path length; None for models without latents.

    Paths are straight in the model's last latent space if it has several, such as the styles of StyleGAN, otherwise
    arcs between latents; each path has one class, if there are classes. The distance is LPIPS if the weights of VGG are
    installed, otherwise the squared distance of the extractor's features.
    """
    if not isinstance(model, LatentGenerator):
        return None
    num_classes = num_sampled_classes(model)
    decode, first, second, labels, space = _ends(model, _PATHS)
    known = lies_at("vgg16") is not None
    distance = _lpips(model) if known else partial(_feature_distance, extractor)
    straight = bool(space)
    compute = partial(perceptual_path_length, decode, first, second, distance, labels=labels, straight=straight)
    classes = {"classes": str(num_classes)} if labels else {}
    return Paths(compute, {"distance": "LPIPS" if known else extractor.fingerprint, **space, **classes})


def smoothness_of(model: LatentGenerator, extractor: Extractor) -> float:
    """Return the smoothness of a model's interpolations, see `metrics.path_length`, in the extractor's features.

    Paths are those of `path_length_of`.
    """
    decode, first, second, labels, space = _ends(model, _FEW_PATHS)
    distance = partial(_feature_distance, extractor)
    return interpolation_smoothness(decode, first, second, distance, labels=labels, straight=bool(space))


def _ends(
    model: LatentGenerator, count: int
) -> tuple[Callable[..., Tensor], Tensor, Tensor, list[int] | None, dict[str, Any]]:
    """Return how a model decodes, the ends of so many paths, their classes, and the space that they are in, by name."""
    spaces, num_classes = latent_spaces(model), num_sampled_classes(model)
    labels = [path % num_classes for path in range(count)] if num_classes else None
    space: dict[str, Any] = {"space": spaces[-1]} if len(spaces) > 1 else {}
    latents: Callable[..., Tensor] = model.latents  # which takes more in spaces that have names
    asked = {"labels": labels, **space} if space else {}
    first, second = (latents(range(start, start + count), **asked) for start in (0, count))
    return partial(model.decode, **space), first, second, labels, space


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
