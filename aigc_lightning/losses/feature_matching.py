"""Distances between the features of a fixed network.

Papers: Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016, section 3.1,
https://arxiv.org/abs/1606.03498 (feature matching; there the features are the discriminator's); Johnson, Alahi, Li,
Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016, equation 2,
https://arxiv.org/abs/1603.08155.
Departures from the papers: the mean over all given layers; feature matching is a mean over a layer's features, like
the perceptual loss, so that its weight does not depend on their number.
Shapes: L layers; the features of each are (B, ...).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Return the squared difference between the mean features of real and of generated images, a scalar.

    Individual images need not be similar. The means are those of the given batch, so the loss of a batch is not the
    mean of the losses of its parts.

    Args:
        real: L tensors (B, ...).
        fake: L tensors of the same shapes; B may differ.
    """
    pairs = zip(real, fake, strict=True)
    return torch.stack([(a.mean(dim=0) - b.mean(dim=0)).square().mean() for a, b in pairs]).mean()


def perceptual(output: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Return the squared difference between the features of images and of their targets, a scalar.

    Args:
        output: L tensors (B, ...).
        target: L tensors of the same shapes.
    """
    pairs = zip(output, target, strict=True)
    return torch.stack([(a - b).square().mean() for a, b in pairs]).mean()
