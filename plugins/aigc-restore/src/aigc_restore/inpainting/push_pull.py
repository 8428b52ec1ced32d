"""A smooth filling of holes, from means over larger and larger neighbourhoods.

Source: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.3 (pull and push)
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad


def push_pull(images: Tensor, masks: Tensor) -> Tensor:
    """Return images (B, C, H, W) with their holes filled; all other pixels are left as they are.

    Args:
        images: what is in the holes does not matter.
        masks: (B, 1, H, W), 1 in holes and 0 elsewhere; a hole may be all of an image, which becomes 0.
    """
    known = 1 - masks
    return _filled(torch.where(masks > 0.5, 0.0, images), known)


def _filled(images: Tensor, known: Tensor) -> Tensor:
    """Fill where `known` (B, 1, H, W), the share of each pixel that is known, is below 1."""
    height, width = images.shape[-2:]
    if max(height, width) == 1:
        return images
    padding = [0, width % 2, 0, height % 2]
    weights = avg_pool2d(pad(known, padding), 2)
    means = avg_pool2d(pad(images * known, padding), 2) / weights.clamp_min(1e-8)
    # A pixel of the smaller image is known as soon as one of its four is.
    smaller = _filled(means, (4 * weights).clamp_max(1))
    smooth = interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return known * images + (1 - known) * smooth
