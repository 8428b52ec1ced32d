"""Penalties on the gradient of a discriminator with respect to its input."""

from collections.abc import Callable

import torch
from torch import Tensor

from aigc_lightning.core.engine.autocast import without_autocast


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return mean((|grad D(x)|_2 - 1)^2) at points x between real and fake images.

    Source: Gulrajani et al., NeurIPS 2017, equation 3, https://arxiv.org/abs/1704.00028.

    Args:
        critic: maps images (B, C, H, W) to values whose first dimension is B; it must treat each image independently.
        real: (B, C, H, W).
        fake: (B, C, H, W).
        mix: (B,) in [0, 1], the share of the real image in each point.

    Returns:
        Scalar that can be differentiated with respect to the critic's parameters.
    """
    share = mix.view(-1, *[1] * (real.ndim - 1)).to(real)
    # Under autocast, fakes are in half precision and real images are not.
    points = torch.lerp(fake.detach().to(real), real.detach(), share).requires_grad_()
    norms = _input_gradient(critic(points), points).flatten(1).square().sum(dim=1).sqrt()
    return (norms - 1).square().mean()


def r1(critic: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Return mean(|grad D(x)|_2^2) at real images, without the factor gamma / 2.

    Source: Mescheder et al., ICML 2018, equation 9, https://arxiv.org/abs/1801.04406.

    Args:
        critic: maps images (B, C, H, W) to logits whose first dimension is B.
        real: (B, C, H, W).

    Returns:
        Scalar that can be differentiated with respect to the critic's parameters.

    Examples:
        >>> import torch
        >>> critic = lambda images: 3 * images.flatten(1)[:, 0]  # its gradient has the norm 3 everywhere
        >>> r1(critic, torch.zeros(4, 1, 8, 8))
        tensor(9.)
    """
    points = real.detach().requires_grad_()
    return _input_gradient(critic(points), points).flatten(1).square().sum(dim=1).mean()


def _input_gradient(values: Tensor, points: Tensor) -> Tensor:
    # The sum gives per-image gradients, since no value depends on another image.
    with without_autocast(points.device):
        (slope,) = torch.autograd.grad(values.sum(dtype=_accurate(values)), points, create_graph=True)
    return slope.to(_accurate(slope))


def _accurate(values: Tensor) -> torch.dtype:
    """Return float64 for float64, else float32: squares of half-precision gradients lose too much."""
    return torch.promote_types(values.dtype, torch.float32)
