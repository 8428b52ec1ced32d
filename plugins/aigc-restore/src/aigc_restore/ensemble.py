"""Geometric self-ensemble: the mean result for an image in all eight orientations.

Source: Lim et al., EDSR, CVPRW 2017, section 3.5, https://arxiv.org/abs/1707.02921
"""

from collections.abc import Callable

from torch import Tensor


def self_ensemble(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the mean of a network's results, each turned back.

    Args:
        network: maps images (B, C, H, W) of any size to images, perhaps larger by a factor.
        images: (B, C, H, W).
    """
    total: Tensor | None = None
    for flipped in (False, True):
        for turns in range(4):
            turned = (images.flip(-1) if flipped else images).rot90(turns, (-2, -1))
            result = network(turned).rot90(-turns, (-2, -1))
            result = result.flip(-1) if flipped else result
            total = result if total is None else total + result
    assert total is not None
    return total / 8
