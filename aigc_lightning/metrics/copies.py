"""The share of generated images that are copies of training images, by a threshold from held-out images.

A distance alone is meaningless: in some datasets all images are similar. Held-out images show how close independent
images come to the training images; a fake that is closer than nearly all of them is flagged as a copy.
Shapes: N, H and M samples, V variants of each, such as mirrored, D dimensions.
"""

import math
from typing import NamedTuple

from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.neighbours import nearest


class Copies(NamedTuple):
    """The copy rate, and the nearest training images of the fakes."""

    rate: float  # share of the fakes that are called copies; about `false_alarms` when there are none
    threshold: float  # distances below are copies
    distances: Tensor  # float64 (M,) from each fake to its nearest training image
    nearest: Tensor  # int64 (M,) the position of that image


def copies(train: Tensor, held_out: Tensor, fake: Tensor, false_alarms: float = 0.01) -> Copies:
    """Return the rate of copies among fakes, at a given rate of false alarms among held-out images.

    Args:
        train: float (N, D), all images that the model has seen.
        held_out: float (H, D) or (H, V, D), real images that it has not seen; at least 1 / false_alarms of them, or the
            threshold is their smallest distance. Of several variants the nearest one counts.
        fake: float (M, D) or (M, V, D), in the same variants.
        false_alarms: share of the held-out images that is called copies.

    Raises:
        UserError: a set is empty.
    """
    for name, values in {"training": train, "held-out": held_out, "generated": fake}.items():
        if not len(values):
            raise UserError(f"There are no {name} images, so copies cannot be detected.", "Give some.")
    genuine = _nearest_variant(held_out, train)[0].sort().values
    threshold = genuine[math.floor(false_alarms * len(genuine))].item()
    distances, numbers = _nearest_variant(fake, train)
    rate = (distances < threshold).double().mean().item()
    return Copies(rate, threshold, distances, numbers)


def _nearest_variant(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's distance, in its nearest variant, to the nearest training image, and that one's row."""
    distances, numbers = (found.view(len(images), -1) for found in nearest(images.flatten(0, -2), train))
    best = distances.argmin(dim=1, keepdim=True)
    return distances.gather(1, best)[:, 0], numbers.gather(1, best)[:, 0]
