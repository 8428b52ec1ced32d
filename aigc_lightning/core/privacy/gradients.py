"""The gradient of a private step: a sum of clipped gradients of single samples, and noise.

Paper: Abadi et al., Deep Learning with Differential Privacy, CCS 2016, https://arxiv.org/abs/1607.00133 (algorithm 1).
Each sample has a forward and a backward pass of its own, as in micro-batches of one, so that any model can be trained.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lightning.core import keyed
from aigc_lightning.core.batch import batch_size
from aigc_lightning.core.engine.autocast import without_autocast
from aigc_lightning.core.memory.micro_batches import split
from aigc_lightning.core.run.seed import run_seed, seed_everywhere
from aigc_lightning.core.window import Window
from aigc_lightning.errors import UserError

_NOISE = 0x6A055  # key of the noise


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def clipped_sum(
    model: Any, batch: Any, norm: float, parameters: Sequence[nn.Parameter], loss_of: Callable[[Any], Any]
) -> tuple[list[Tensor], Tensor]:
    """Return the sum of the samples' gradients, each scaled down to a norm, and the mean of their losses.

    Args:
        model: an `ImageModel` in training.
        batch: of its data, with `index`.
        norm: the largest norm of a sample's gradient, over all parameters.
        parameters: for which to compute gradients.
        loss_of: returns what a training step returns for a batch of one sample.

    Raises:
        UserError: the gradient of a sample is not finite.
    """
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    losses = torch.zeros((), device=model.device)
    size = batch_size(batch)
    for sample, number in zip(split(batch, size), batch["index"].tolist(), strict=True):
        # Keyed by the sample, not its place in the batch: no other sample may change what is drawn for it.
        model._window = Window(total=1, site=1 + number)
        seed_everywhere(run_seed(), model.step, number)
        output = loss_of(sample)
        if output is None:  # the author skips the sample
            continue
        loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
        with without_autocast(loss.device):
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
        _add_clipped(sums, found, norm)
        losses += loss.detach() / size
    return sums, losses


def add_noise(gradients: Sequence[Tensor], deviation: float, secret: int, step: int) -> None:
    """Add Gaussian noise in place, a function of the secret and the step.

    Args:
        gradients: of all parameters, in order.
        deviation: standard deviation of the noise.
        secret: must remain unknown: who knows it can subtract the noise.
        step: number of batches finished before this one.
    """
    for number, gradient in enumerate(gradients):
        noise = keyed.normal(tuple(gradient.shape), secret, _NOISE, step, number)
        gradient.add_(noise.to(gradient), alpha=deviation)


def loss_with(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], value: Tensor) -> Tensor:
    """Return a loss of this value whose gradients are the given ones, so that the backward pass is the trainer's."""
    inner = torch.stack(
        [(one * other).sum() for one, other in zip(parameters, gradients, strict=True)],
    ).sum()
    return inner - inner.detach() + value


def _add_clipped(sums: list[Tensor], found: Sequence[Tensor | None], norm: float) -> None:
    pairs = [(total, own) for total, own in zip(sums, found, strict=True) if own is not None]
    length = torch.stack([own.float().norm() for _, own in pairs]).norm()
    if not torch.isfinite(length):
        raise UserError(
            "The gradient of a training image is not finite, which noise cannot hide.", "Use a smaller --model.lr."
        )
    factor = norm / length.clamp(min=norm)
    for total, own in pairs:
        total.add_(own * factor.to(own))
