"""The parts of adversarial training that know one player: its settings, its network, its update."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from aigc_lightning.core.distributed import average_gradients
from aigc_lightning.errors import UserError


@dataclass(frozen=True)
class Engine:
    """How adversarial models are trained, whatever the model.

    Args:
        ema_decay: share of the generator's average that is kept at each step; 0 keeps no average.
        micro_batches: number of parts in which a batch is processed to save memory.
        clip_norm: largest norm of a player's gradient; None for no clipping.
        max_skipped: updates that may be left out in a row because their gradient is not finite; 0 stops at the first.

    Raises:
        UserError: a value out of range.
    """

    ema_decay: float = 0.999
    micro_batches: int = 1
    clip_norm: float | None = None
    max_skipped: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"engine.ema_decay is {self.ema_decay}.", "Give a number from 0 (no average) to below 1.")
        if self.micro_batches < 1:
            raise UserError(f"engine.micro_batches is {self.micro_batches}.", "Give at least 1.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"engine.clip_norm is {self.clip_norm}.", "Give a positive number, or leave it out.")
        if self.max_skipped < 0:
            raise UserError(f"engine.max_skipped is {self.max_skipped}.", "Give 0 or more.")


@dataclass
class Window:
    """The part of a step that is running: which update is live, on which micro-batch."""

    live: int | None = None  # number of the update within the step; None: all are
    first: bool = True
    last: bool = True
    weight: float = 1.0  # factor that turns the mean loss of this part into its share of the global batch's
    start: int = 0  # global place of its first sample
    total: int = 0  # samples of the global batch
    updates: int = 0  # calls of `update` so far
    site: int = 0  # where random numbers are drawn: 0 outside of the updates, n inside the n-th
    draws: dict[int, int] = field(default_factory=dict)  # numbers of draws so far at each site


@dataclass
class Player:
    """A network, its optimizer, and the parameters that it trains."""

    name: str
    network: nn.Module
    optimizer: Optimizer
    parameters: list[nn.Parameter] = field(default_factory=list)
    updated_in: int = -1  # the last step in which it was updated
    skipped: int = 0  # updates left out in a row

    def freeze(self, frozen: bool) -> None:
        """Keep gradients from being computed for this player, or let them."""
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)

    def step(self, engine: Engine, loss: Tensor, number: int, *, scaler: "Scaler", distributed: bool) -> None:
        """Apply the gradient that has been computed.

        Args:
            engine: the settings.
            loss: for the message when the gradient is not finite.
            number: of the step.
            scaler: of fp16 training, or None.
            distributed: whether other processes have computed a part of the gradient.

        Raises:
            UserError: the gradient is not finite, too often; the weights are untouched.
        """
        if distributed:
            average_gradients(self.parameters)  # before anything is decided, so that all processes decide the same
        if scaler is not None:
            if self.updated_in == number:
                scaler.update()  # it takes one look at a player's gradient between two updates of itself
            scaler.unscale_(self.optimizer)  # so that clipping sees true gradients
        self.updated_in = number
        norm = self._norm()
        if scaler is None and not torch.isfinite(norm):
            self._leave_out(engine, loss, number)
            return
        self.skipped = 0
        if engine.clip_norm is not None and torch.isfinite(norm):
            clip_grads_with_norm_(self.parameters, engine.clip_norm, norm)
        if scaler is None:
            # The raw optimizer: Lightning's wrapper would count each player's step as a step of the run.
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)  # which leaves an overflow out; the scale shrinks at the end of the step

    def _norm(self) -> Tensor:
        return get_total_norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])

    def _leave_out(self, engine: Engine, loss: Tensor, number: int) -> None:
        self.skipped += 1
        if self.skipped > engine.max_skipped:
            raise UserError(
                f"The gradient of the {self.name} is not finite at step {number} (its loss is {loss.item():.4g}).",
                "Its weights are untouched. Resume with a smaller learning rate or --engine.clip_norm, "
                "or allow some with --engine.max_skipped.",
            )


Scaler = torch.amp.GradScaler | None


@contextmanager
def only(player: Player, others: list[Player]) -> Iterator[None]:
    """Freeze the other players, so that no gradient is computed for them."""
    for other in others:
        other.freeze(True)
    try:
        yield
    finally:
        for other in others:
            other.freeze(False)
