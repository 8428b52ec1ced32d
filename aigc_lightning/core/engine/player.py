"""The parts of adversarial training that know one player: its settings, its network, its update."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from aigc_lightning.core.engine.augmentation import check_policies
from aigc_lightning.core.engine.distributed import average_gradients, with_zeros
from aigc_lightning.core.engine.nonfinite import LateGuard, can_leave_out, left_out, overflow, step_unless
from aigc_lightning.errors import UserError

#: Overflows of fp16 in a row after which no scale is to blame: it is then a millionth of a millionth of the first one.
_HALVINGS = 40


@dataclass(frozen=True)
class Engine:
    """How adversarial models are trained, whatever the model.

    Args:
        ema_decay: share of the generator's average that is kept at each step; 0 keeps no average.
        micro_batches: number of parts in which a batch is processed to save memory.
        clip_norm: largest norm of a player's gradient; None for no clipping.
        max_skipped: updates that may be left out in a row because their gradient is not finite; 0 stops at the first.
        augment: varies all images that discriminators judge, with gradients to the generator: "none", "diff" (always)
            or "ada" (as often as keeps the discriminators from knowing the real images by heart).
        augment_policies: what is varied, of "color,translation,cutout".
        augment_target: mean sign of the logits of real images that "ada" steers towards.
        augment_images: images in which the probability of "ada" can go from 0 to 1.

    Raises:
        UserError: a value out of range.
    """

    ema_decay: float = 0.999
    micro_batches: int = 1
    clip_norm: float | None = None
    max_skipped: int = 0
    augment: Literal["none", "diff", "ada"] = "none"
    augment_policies: str = "color,translation,cutout"
    augment_target: float = 0.6
    augment_images: int = 500_000

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"engine.ema_decay is {self.ema_decay}.", "Give a number from 0 (no average) to below 1.")
        if self.micro_batches < 1:
            raise UserError(f"engine.micro_batches is {self.micro_batches}.", "Give at least 1.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"engine.clip_norm is {self.clip_norm}.", "Give a positive number, or leave it out.")
        if self.max_skipped < 0:
            raise UserError(f"engine.max_skipped is {self.max_skipped}.", "Give 0 or more.")
        if self.augment not in ("none", "diff", "ada"):
            raise UserError(f"engine.augment is {self.augment!r}.", "Give none, diff or ada.")
        check_policies(self.augment_policies.split(","))
        if not 0 < self.augment_target < 1:
            raise UserError(f"engine.augment_target is {self.augment_target}.", "Give a number between 0 and 1.")
        if self.augment_images < 1:
            raise UserError(f"engine.augment_images is {self.augment_images}.", "Give at least 1.")


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
    """A network, its optimizer, the parameters that it trains, and its opponents."""

    name: str
    network: nn.Module
    optimizer: Optimizer
    parameters: list[nn.Parameter] = field(default_factory=list)
    others: list["Player"] = field(default_factory=list)
    updated_in: int = -1  # the last step in which it was updated
    skipped: int = 0  # updates left out in a row

    def freeze(self, frozen: bool) -> None:
        """Keep gradients from being computed for this player, or let them."""
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)

    def forget(self) -> None:
        """Forget the gradients of all that the optimizer has; its own way of doing so takes ten times as long."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(
        self,
        engine: Engine,
        loss: Tensor,
        number: int,
        *,
        scaler: "Scaler",
        distributed: bool,
        guard: LateGuard | None = None,
    ) -> None:
        """Apply the gradient that has been computed.

        Args:
            engine: the settings.
            loss: for the message when the gradient is not finite.
            number: of the step.
            scaler: of fp16 training, or None.
            distributed: whether other processes have computed a part of the gradient.
            guard: decides on the device where reading from it would make the host wait, else None.

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
        if all(parameter.grad is None for parameter in self.parameters):
            return
        gradients = with_zeros(self.parameters)  # one process does with a parameter what several do
        norm = None if engine.clip_norm is None else get_total_norm(gradients)
        bad = overflow(gradients) if norm is None else torch.isfinite(norm).logical_not().float()
        # A scale that is too large makes overflows; the scaler leaves them out and halves it.
        allowed = engine.max_skipped if scaler is None else max(engine.max_skipped, _HALVINGS)
        unless: Tensor | None = None
        if guard is not None and can_leave_out(self.optimizer):
            unless = guard.judge(self.name, number, loss, bad, allowed, warns=scaler is None)
        elif not self._may_step(bad, loss, number, allowed, warns=scaler is None) and scaler is None:
            return
        if engine.clip_norm is not None and norm is not None:
            clip_grads_with_norm_(self.parameters, engine.clip_norm, norm)
        if scaler is not None:
            scaler.step(self.optimizer)  # which leaves an overflow out; the scale shrinks at the end of the step
        elif unless is not None:
            step_unless(self.optimizer, unless)
        else:
            # The raw optimizer: Lightning's wrapper would count each player's step as a step of the run.
            self.optimizer.step()

    def _may_step(self, bad: Tensor, loss: Tensor, number: int, allowed: int, *, warns: bool) -> bool:
        """Say whether the gradient is finite; count how often in a row it was not."""
        if not bad.item():
            self.skipped = 0
            return True
        self.skipped += 1
        stops = self.skipped > allowed
        if stops or warns:
            left_out(self.name, number, loss.item(), stops=stops)
        return False


Scaler = torch.amp.GradScaler | None


@contextmanager
def only(player: Player) -> Iterator[None]:
    """Freeze the player's opponents, so that no gradient is computed for them."""
    for other in player.others:
        other.freeze(True)
    try:
        yield
    finally:
        for other in player.others:
            other.freeze(False)
