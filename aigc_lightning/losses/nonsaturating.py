"""Non-saturating GAN loss on logits.

Source: Goodfellow et al., NeurIPS 2014, section 3, https://arxiv.org/abs/1406.2661, in its softplus form:
-log sigmoid(x) = softplus(-x).
"""

from torch import Tensor
from torch.nn.functional import softplus


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return mean(-log sigmoid(real)) + mean(-log(1 - sigmoid(fake))), a scalar, from logits of any shape."""
    return discriminator_on_real(real_logits) + discriminator_on_fake(fake_logits)


def discriminator_on_real(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on real images, a scalar."""
    return softplus(-logits).mean()


def discriminator_on_fake(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on generated images, a scalar."""
    return softplus(logits).mean()


def generator(fake_logits: Tensor) -> Tensor:
    """Return mean(-log sigmoid(fake)), a scalar.

    Examples:
        >>> import torch
        >>> generator(torch.tensor([0.0]))  # log 2: the discriminator is undecided
        tensor(0.6931)
    """
    return softplus(-fake_logits).mean()
