"""Log-likelihoods as bits per dimension, in which lossless codes and likelihood models are compared.

A dimension is one number of an image: there are C * H * W of them.
"""

import math

from torch import Tensor

#: Bits that a density over [-1, 1] lacks: its unit of volume holds 127.5 of the 256 levels.
BITS_OF_UNIT = math.log2(127.5)


def bits_per_dim(log_likelihood: Tensor, num_dims: int) -> Tensor:
    """Return bits per dimension of images whose numbers are levels, in the shape of the log-likelihoods.

    Args:
        log_likelihood: log-probabilities of whole images, in nats.
        num_dims: numbers in an image, C * H * W.
    """
    return -log_likelihood / (num_dims * math.log(2))


def bits_per_dim_of_density(log_density: Tensor, num_dims: int) -> Tensor:
    """Return bits per dimension of 8-bit images scaled to [-1, 1], of which a model gives densities.

    Args:
        log_density: of whole images, in nats.
        num_dims: numbers in an image, C * H * W.
    """
    return bits_per_dim(log_density, num_dims) + BITS_OF_UNIT
