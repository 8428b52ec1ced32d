"""KL divergence of a Gaussian posterior from the standard normal prior, in nats.

Shapes: B batch, Z latent size.
"""

import torch
from torch import Tensor


def from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) of each latent dimension, in nats.

    Source: Kingma and Welling, ICLR 2014, appendix B, https://arxiv.org/abs/1312.6114.

    Args:
        mean: (B, Z).
        log_variance: (B, Z).

    Returns:
        (B, Z), at least 0.

    Examples:
        >>> import torch
        >>> from_standard_normal(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2))
        tensor([[0.0000, 0.5000]])
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def with_free_bits(divergence: Tensor, free_nats: float, batch_mean: Tensor) -> Tensor:
    """Return the divergence of each image with free bits.

    A latent dimension whose mean divergence over the batch is below `free_nats` counts as `free_nats`, a constant, so
    nothing pulls it further towards the prior.
    Source: Kingma et al., NeurIPS 2016, equation 15, https://arxiv.org/abs/1606.04934.

    Args:
        divergence: (B, Z), in nats.
        free_nats: lambda, at least 0.
        batch_mean: (Z,) mean of the divergence over the whole batch, of which `divergence` may be a part.

    Returns:
        (B,) sums over the latent dimensions.
    """
    return torch.where(batch_mean > free_nats, divergence, divergence.new_tensor(free_nats)).sum(1)
