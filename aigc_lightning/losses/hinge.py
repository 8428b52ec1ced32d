"""Hinge GAN loss.

Source: Lim and Ye, Geometric GAN, 2017, https://arxiv.org/abs/1705.02894; Miyato et al., ICLR 2018, equations 16-17.
"""

from torch import Tensor
from torch.nn.functional import relu


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return mean(max(0, 1 - real)) + mean(max(0, 1 + fake)), a scalar, from logits of any shape.

    Examples:
        >>> import torch
        >>> discriminator(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0]))
        tensor(0.7500)
    """
    return discriminator_on_real(real_logits) + discriminator_on_fake(fake_logits)


def discriminator_on_real(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on real images, a scalar."""
    return relu(1 - logits).mean()


def discriminator_on_fake(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on generated images, a scalar."""
    return relu(1 + logits).mean()


def generator(fake_logits: Tensor) -> Tensor:
    """Return -mean(fake), a scalar."""
    return -fake_logits.mean()
