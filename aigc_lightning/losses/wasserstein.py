"""Wasserstein GAN loss; the critic must be kept 1-Lipschitz, for example by `penalties.gradient_penalty`.

Source: Arjovsky et al., ICML 2017, https://arxiv.org/abs/1701.07875.
"""

from torch import Tensor


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return mean(fake) - mean(real), a scalar, from critic values of any shape."""
    return fake_logits.mean() - real_logits.mean()


def generator(fake_logits: Tensor) -> Tensor:
    """Return -mean(fake), a scalar."""
    return -fake_logits.mean()
