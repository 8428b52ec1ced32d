"""What a style is: statistics of feature maps that do not depend on where things are.

Papers: Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016 (Gram matrices);
Huang, Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017,
https://arxiv.org/abs/1703.06868 (means and deviations).
Shapes: B batch, F channels of feature maps, H and W their height and width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor
from torch.nn import functional

#: Added to the variance of a channel, so that a constant one has a deviation that can be divided by. The rounding of
#: pixels to 8 bits has half this variance.
EPSILON = 1e-5
_ITERATIONS = 20  # enough for variances that differ by a factor of 100,000
_RELATIVE = 1e-4  # of the trace of a matrix, added before its root is taken; less amplifies the rounding of greys


class Losses(NamedTuple):
    """The losses of B images, (B,) each."""

    style: Tensor
    content: Tensor

    def total(self, content_weight: float) -> Tensor:
        """Return the weighted sum, (B,)."""
        return self.style + content_weight * self.content


def gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the Gram matrices (B, F, F) of feature maps (B, F, H, W): the mean of the products of channels.

    Args:
        features: (B, F, H, W).
        mask: weights of the positions, (1, 1, H, W), not negative and not all 0; all positions count alike without it.
    """
    rows = features.flatten(2)
    if mask is None:
        return rows @ rows.transpose(1, 2) / rows.shape[2]
    weights = mask.flatten(2)
    return (rows * (weights / weights.sum())) @ rows.transpose(1, 2)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each channel of feature maps (B, F, H, W), (B, F, 1, 1) each."""
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def adain(content: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return content features with other means and deviations: adaptive instance normalisation (equation 8).

    Args:
        content: (B, F, H, W).
        mean: of the style's features, (B, F, 1, 1).
        deviation: of the style's features, (B, F, 1, 1).
    """
    own_mean, own_deviation = moments(content)
    return (content - own_mean) / own_deviation * deviation + mean


class Palette(NamedTuple):
    """The mean (..., C, 1) and the covariance (..., C, C) of the colours of images."""

    mean: Tensor
    covariance: Tensor


def palette(images: Tensor) -> Palette:
    """Return the palettes of images (B, C, H, W)."""
    rows = images.flatten(2)
    mean = rows.mean(dim=2, keepdim=True)
    centred = rows - mean
    with without_autocast(images.device):
        return Palette(mean, centred @ centred.transpose(1, 2) / rows.shape[2])


def match_palettes(images: Sequence[Tensor], wanted: Palette) -> list[Tensor]:
    """Return images with other palettes, whose colours are each moved as little as possible.

    It is the optimal transport between normal distributions.
    Source: Pitie, Kokaram, The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour Transfer,
    CVMP 2007.

    Args:
        images: K of them, of one size or of several, (B, C, ...) each.
        wanted: (K, B, C, 1) and (K, B, C, C).
    """
    own = [palette(one) for one in images]
    with without_autocast(images[0].device):
        # Added to both covariances, so that an image that has the palette already keeps its colours.
        ridge = EPSILON * torch.eye(images[0].shape[1], dtype=images[0].dtype, device=images[0].device)
        root, inverse = _roots(torch.cat([one.covariance for one in own]) + ridge)
        between, _ = _roots(root @ (wanted.covariance.flatten(0, 1) + ridge) @ root)
        transforms = (inverse @ between @ inverse).view_as(wanted.covariance)
        return [
            (transform @ (image.flatten(2) - before.mean) + mean).view_as(image)
            for image, before, transform, mean in zip(images, own, transforms, wanted.mean, strict=True)
        ]


def _roots(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square roots of symmetric matrices (N, C, C), and their inverses, by the Newton-Schulz iteration.

    Products alone, which every runtime of an exported graph knows, and few of them, which keeps the graph small.
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    trace = matrices.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    root, inverse = matrices / trace + _RELATIVE * identity, identity.expand_as(matrices)
    for _ in range(_ITERATIONS):
        change = torch.baddbmm(identity, inverse, root, beta=1.5, alpha=-0.5)
        root, inverse = torch.bmm(root, change), torch.bmm(change, inverse)
    return root * trace.sqrt(), inverse / trace.sqrt()


def layer_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the weights of layers, which sum to 1; equal ones by default.

    Args:
        weights: not negative and not all 0, one per layer.
        count: number of layers.
    """
    given = [1.0] * count if weights is None else list(weights)
    assert len(given) == count and min(given) >= 0 and sum(given) > 0
    return [weight / sum(given) for weight in given]


def gram_loss(found: Sequence[Tensor], wanted: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Return the squared error of Gram matrices relative to the wanted ones, a mean over layers, (B,).

    Relative, so that layers count as their weights say, whatever the size of their features: an image without any
    features has the loss 1, and one with the style's statistics 0.

    Args:
        found: (B, F, F) of each layer.
        wanted: the same, or (1, F, F) for all images.
        weights: of the layers, see `layer_weights`.
    """
    errors = [_relative(one, other, (1, 2)) for one, other in zip(found, wanted, strict=True)]
    return _weighted(errors, weights)


def content_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared error of feature maps (B, F, H, W) relative to the variance of the wanted ones, (B,).

    The wanted maps themselves have the loss 0, their means 1.
    """
    error = (found - wanted).square().mean(dim=(1, 2, 3))
    spread = moments(wanted)[1].square().mean(dim=(1, 2, 3))
    return error / spread


def match_colors(image: Tensor, style: Tensor) -> Tensor:
    """Return an image (1, C, H, W) with the mean and the deviation of each of the style's channels, clipped to [-1, 1].

    This is the baseline of style transfer: colours without brush strokes.
    """
    return adain(image, *moments(style)).clamp(-1, 1)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (B, C, H, W) of another size (height, width), without aliasing."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)


def _relative(found: Tensor, wanted: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the squared error relative to the square of the wanted values, (B,)."""
    scale = wanted.square().sum(dim=dims).clamp_min(torch.finfo(torch.float32).tiny)
    return (found - wanted).square().sum(dim=dims) / scale


def _weighted(errors: Sequence[Tensor], weights: Sequence[float] | None) -> Tensor:
    shares = layer_weights(weights, len(errors))
    return torch.stack([share * error for share, error in zip(shares, errors, strict=True)]).sum(dim=0)
