"""Log-probabilities of 8-bit images from models of continuous values, by uniform dequantisation.

An image with uniform noise, as wide as a level, added to each value has a density, whose logarithm is on average at
most the log-probability of the image.

Source: Theis et al., A note on the evaluation of generative models, ICLR 2016, section 3.1,
https://arxiv.org/abs/1511.01844
Shapes: B batch, C channels, H and W height and width in pixels, D = C H W.
"""

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from aigc_lightning.core import keyed

#: Levels in a unit of length: the 256 levels of [-1, 1] are 1 / 127.5 apart.
LEVELS_PER_UNIT = 127.5
_NOISE = 0x1E7E1  # key of the noise, so that a seed's other draws are independent of it


def dequantised(images: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return images (B, C, H, W) of 256 levels in [-1, 1] with uniform noise as wide as a level added.

    Args:
        images: on any device.
        seeds: one per image, on which its noise depends.
    """
    shape = tuple(images.shape[1:])
    noise = torch.stack([torch.rand(shape, generator=keyed.generator(seed, _NOISE)) for seed in seeds])
    return images + (noise.to(images) - 0.5) / LEVELS_PER_UNIT


def log_probability(log_density: Tensor, num_dims: int) -> Tensor:
    """Return what log-densities of dequantised images say about the log-probabilities of the 8-bit images, in nats.

    Args:
        log_density: of whole images with values in [-1, 1], in nats, any shape.
        num_dims: D.
    """
    return log_density - num_dims * log(LEVELS_PER_UNIT)
