"""How many generated images are copies of training images, by a threshold that genuine new images set.

A distance alone says nothing: in some data all images are near each other. Held-out images show how near images come
that nobody copied; a fake that is nearer to a training image than nearly all of them is called a copy.
Shapes: N, H and M samples, D dimensions.
"""

import math
from typing import NamedTuple

from torch import Tensor

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.neighbours import nearest


class Copies(NamedTuple):
    """What the fakes' nearest training images say."""

    rate: float  # share of the fakes that are called copies; about `false_alarms` when there are none
    threshold: float  # distances below are copies
    distances: Tensor  # float64 (M,) from each fake to its nearest training image
    nearest: Tensor  # int64 (M,) the position of that image


def copies(train: Tensor, held_out: Tensor, fake: Tensor, false_alarms: float = 0.01) -> Copies:
    """Return the rate of copies among fakes, at a given rate of false alarms among held-out images.

    Args:
        train: float (N, D), all images that the model has seen.
        held_out: float (H, D), real images that it has not seen; at least 1 / false_alarms of them, or the threshold
            is their smallest distance.
        fake: float (M, D).
        false_alarms: share of the held-out images that is called copies.

    Raises:
        UserError: a set is empty.
    """
    for name, values in {"training": train, "held-out": held_out, "generated": fake}.items():
        if not len(values):
            raise UserError(f"There are no {name} images, so copies cannot be found.", "Give some.")
    genuine = nearest(held_out, train)[0][:, 0].sort().values
    threshold = genuine[math.floor(false_alarms * len(genuine))].item()
    distances, numbers = nearest(fake, train)
    rate = (distances[:, 0] < threshold).double().mean().item()
    return Copies(rate, threshold, distances[:, 0], numbers[:, 0])
