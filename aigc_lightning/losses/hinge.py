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
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def generator(fake_logits: Tensor) -> Tensor:
    """Return -mean(fake), a scalar."""
    return -fake_logits.mean()
