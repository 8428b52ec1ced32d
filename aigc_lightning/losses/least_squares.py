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
    return discriminator_on_real(real_logits) + discriminator_on_fake(fake_logits)


def discriminator_on_real(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on real images, a scalar."""
    return 0.5 * (logits - 1).square().mean()


def discriminator_on_fake(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on generated images, a scalar."""
    return 0.5 * logits.square().mean()


def generator(fake_logits: Tensor) -> Tensor:
    """Return mean((fake - 1)^2) / 2, a scalar."""
    return 0.5 * (fake_logits - 1).square().mean()
