"""Relativistic average GAN loss on logits: real images should look more real than generated ones on average.

Papers: Jolicoeur-Martineau, The Relativistic Discriminator, ICLR 2019, https://arxiv.org/abs/1807.00734, section 4.2;
Wang et al., ESRGAN, ECCVW 2018, https://arxiv.org/abs/1809.00219, equations 1 and 2.
Departure from the papers: logits are compared with the average over the same image's logits, not over the batch, so
that the loss of a batch is the mean of those of its images. Each generated image belongs to the real one of its place.
Shapes: B batch; logits are (B, ...), such as one for each patch.
"""

from torch import Tensor
from torch.nn.functional import softplus


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the mean of -log D(real, fake) and -log(1 - D(fake, real)), summed, a scalar."""
    real, fake = _relative(real_logits, fake_logits)
    return softplus(-real).mean() + softplus(fake).mean()


def generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the mean of -log(1 - D(real, fake)) and -log D(fake, real), summed, a scalar."""
    real, fake = _relative(real_logits, fake_logits)
    return softplus(real).mean() + softplus(-fake).mean()


def _relative(real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B, N) of real images minus the average of the fake ones, and the other way round."""
    real, fake = real_logits.flatten(1), fake_logits.flatten(1)
    return real - fake.mean(dim=1, keepdim=True), fake - real.mean(dim=1, keepdim=True)
