"""Wasserstein GAN loss; the critic must be kept 1-Lipschitz, for example by `penalties.gradient_penalty`.

Source: Arjovsky et al., ICML 2017, https://arxiv.org/abs/1701.07875.
"""

from torch import Tensor


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return mean(fake) - mean(real), a scalar, from critic values of any shape."""
    return discriminator_on_real(real_logits) + discriminator_on_fake(fake_logits)


def discriminator_on_real(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on real images, a scalar."""
    return -logits.mean()


def discriminator_on_fake(logits: Tensor) -> Tensor:
    """Return the part of the discriminator's loss that depends on generated images, a scalar."""
    return logits.mean()


def generator(fake_logits: Tensor) -> Tensor:
    """Return -mean(fake), a scalar."""
    return -fake_logits.mean()
