"""Distance of textures: Gram matrices of a fixed network's features.

Paper: Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equations 3 to 5; as a
loss of inpainting in Liu et al., ECCV 2018, https://arxiv.org/abs/1804.07723, equation 4.
Departure from the papers: the mean over all given layers and over the entries of a matrix.
Shapes: L layers; the features of each are (B, F, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """Return the products (B, F, F) of features (B, F, H, W), as means over the pixels."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def style(output: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Return the absolute difference between the Gram matrices of images and of their targets, a scalar.

    Args:
        output: L tensors; those that are not (B, F, H, W), such as logits, are left out.
        target: L tensors of the same shapes.
    """
    pairs = [(a, b) for a, b in zip(output, target, strict=True) if a.ndim == 4]
    return torch.stack([(gram(a) - gram(b)).abs().mean() for a, b in pairs]).mean()
