"""Sanity check of a custom feature extractor: its distances must tell good images from degraded ones."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import Labelled, collect
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.metrics.classes import accuracy
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.moments import Moments

#: Accuracy that a classifier of the same classes needs.
LEAST_ACCURACY = 0.8
#: Standard deviations: of the blur as a share of the image's shorter side, and of the noise in grey levels.
BLURS = (0.0, 0.05, 0.1, 0.2)
NOISES = (0.0, 16.0, 32.0, 64.0)


class Gate(NamedTuple):
    """What the gate measured."""

    accuracy: float | None  # None where the extractor knows no classes or others
    blurred: list[float]  # Frechet distances from the images to the same ones, blurred by `BLURS`
    noisy: list[float]  # the same for `NOISES`


def check_extractor(extractor: Extractor, images: Tensor, labels: Tensor | None, class_names: tuple[str, ...]) -> Gate:
    """Measure whether an extractor's distances grow as images get worse, and its accuracy if it classifies.

    Args:
        extractor: to check.
        images: real ones, uint8 (N, C, H, W); a few hundred suffice.
        labels: int64 (N,), or None.
        class_names: what the labels mean.

    Raises:
        UserError: it fails, so its scores would be meaningless.
    """
    bank = collect(extractor, [(images, torch.arange(len(images)), labels)])
    known = bank.logits is not None and labels is not None and extractor.class_names == class_names
    right = accuracy(bank.logits, labels) if known and bank.logits is not None and labels is not None else None
    if right is not None and right < LEAST_ACCURACY:
        raise UserError(
            f"The extractor {extractor.name} classifies only {right:.1%} of the real images correctly; "
            f"{LEAST_ACCURACY:.0%} are needed for its distances to be meaningful.",
            "Train it longer, or give another --extractor.",
        )
    measured = {
        "blur": _distances(extractor, bank.moments, images, BLURS, _blurred),
        "noise": _distances(extractor, bank.moments, images, NOISES, _noisy),
    }
    for kind, distances in measured.items():
        if any(later <= earlier for earlier, later in pairwise(distances)):
            raise UserError(
                f"Distances of the extractor {extractor.name} do not grow with {kind}: "
                f"{', '.join(f'{distance:.4g}' for distance in distances)}.",
                "Train it longer or with other images, or give another --extractor.",
            )
    return Gate(right, measured["blur"], measured["noise"])


def _distances(
    extractor: Extractor,
    clean: Moments,
    images: Tensor,
    strengths: tuple[float, ...],
    damage: Callable[[Tensor, float], Tensor],
) -> list[float]:
    def described(strength: float) -> Moments:
        damaged: Labelled = (damage(images, strength), torch.arange(len(images)), None)
        return collect(extractor, [damaged], with_logits=False).moments

    return [0.0, *(frechet_distance(clean, described(strength)) for strength in strengths[1:])]


def _blurred(images: Tensor, share: float) -> Tensor:
    sigma = share * min(images.shape[-2:])
    radius = min(max(1, round(3 * sigma)), (min(images.shape[-2:]) - 1) // 2)
    blurred: Tensor = gaussian_blur(images, [2 * radius + 1, 2 * radius + 1], [sigma, sigma])
    return blurred


def _noisy(images: Tensor, std: float) -> Tensor:
    noise = keyed.normal(tuple(images.shape), 0) * std
    return (images.float() + noise).round().clamp(0, 255).to(torch.uint8)
