"""A player, one of the networks trained against each other: its parameters, its opponents, its step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from aigc_lightning.core.engine.distributed import average_gradients, with_zeros
from aigc_lightning.core.engine.nonfinite import overflow
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.engine.updates import Gradient, HostUpdate, Update


@dataclass
class Player:
    """A network, its optimizer, the parameters that it trains, and its opponents."""

    name: str
    network: nn.Module
    optimizer: Optimizer
    parameters: list[nn.Parameter] = field(default_factory=list)
    others: list["Player"] = field(default_factory=list)
    update: Update = field(default_factory=HostUpdate)
    updated_in: int = -1  # the last step in which it was updated
    skipped: int = 0  # consecutive skipped updates

    def freeze(self, frozen: bool) -> None:
        """Freeze or unfreeze this player's parameters."""
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)

    def forget(self) -> None:
        """Clear the gradients of all the optimizer's parameters, ten times faster than its own `zero_grad`."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self, engine: Engine, loss: Tensor, number: int, *, sum_: Callable[[Tensor], None] | None) -> None:
        """Apply the gradient that has been computed.

        Args:
            engine: the settings.
            loss: for the message if the gradient is not finite.
            number: of the step.
            sum_: replaces a tensor by its sum over all processes; None if there is only this one.

        Raises:
            UserError: the gradient was not finite too often; the weights are unchanged.
        """
        if sum_ is not None:
            average_gradients(self.parameters, sum_)  # before any decision, so that all processes decide alike
        self.update.unscale(self, number)
        self.updated_in = number
        if all(parameter.grad is None for parameter in self.parameters):
            return
        gradients = with_zeros(self.parameters)  # as several processes do
        norm = None if engine.clip_norm is None else get_total_norm(gradients)
        bad = overflow(gradients) if norm is None else torch.isfinite(norm).logical_not().float()
        self.update.apply(self, Gradient(bad, norm, engine.clip_norm, loss, number, engine.max_skipped))


@contextmanager
def only(player: Player) -> Iterator[None]:
    """Freeze the player's opponents, so that no gradients are computed for them."""
    for other in player.others:
        other.freeze(True)
    try:
        yield
    finally:
        for other in player.others:
            other.freeze(False)
