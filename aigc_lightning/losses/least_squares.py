"""Least-squares GAN loss with targets 0 (fake) and 1 (real).

Source: Mao et al., ICCV 2017, equation 9, https://arxiv.org/abs/1611.04076.
"""

from torch import Tensor


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return (mean((real - 1)^2) + mean(fake^2)) / 2, a scalar, from logits of any shape.

    Examples:
        >>> import torch
        >>> discriminator(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0]))
        tensor(2.)
    """
    return 0.5 * ((real_logits - 1).square().mean() + fake_logits.square().mean())


def generator(fake_logits: Tensor) -> Tensor:
    """Return mean((fake - 1)^2) / 2, a scalar."""
    return 0.5 * (fake_logits - 1).square().mean()
