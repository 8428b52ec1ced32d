"""Log-likelihoods in bits per dimension, in which likelihood models and lossless codecs are compared."""

from math import log

from torch import Tensor


def bits_per_dim(log_likelihood: Tensor, num_dims: int) -> Tensor:
    """Return bits per dimension, in the shape of the log-likelihoods: 8 for images whose 256 levels are all equal.

    Args:
        log_likelihood: log-probabilities of 8-bit images, in nats.
        num_dims: numbers in an image, C * H * W.

    Examples:
        >>> import torch
        >>> bits_per_dim(torch.tensor([-784 * log(256)]), num_dims=784)
        tensor([8.])
    """
    return -log_likelihood / (num_dims * log(2))
