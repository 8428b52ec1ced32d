"""The three ways in which a player's gradient becomes a step of its optimizer or is skipped.

All skip a non-finite gradient and stop the run after too many in a row. They differ in who decides: the host, at once;
the device, with the host one step behind; or the scaler of fp16 training.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from aigc_lightning.core.engine.nonfinite import LateGuard, left_out
from aigc_lightning.core.fused_optimizers import can_leave_out, step_unless

if TYPE_CHECKING:
    from aigc_lightning.core.engine.player import Player

Scaler = torch.amp.GradScaler | None
#: Consecutive fp16 overflows after which the scale cannot be to blame: it is then a millionth of a millionth of the
#: initial one.
_HALVINGS = 40


class Gradient(NamedTuple):
    """A computed gradient and how to treat it.

    Args:
        bad: 1 if it is not finite, else 0, on its device.
        norm: its norm; None if it is not clipped.
        most: clip to this norm.
        loss: the loss it belongs to, for messages.
        step: number of the step.
        allowed: consecutive updates that may be skipped.
    """

    bad: Tensor
    norm: Tensor | None
    most: float | None
    loss: Tensor
    step: int
    allowed: int

    def clip(self, player: "Player") -> None:
        """Clip it if requested."""
        if self.norm is not None and self.most is not None:
            clip_grads_with_norm_(player.parameters, self.most, self.norm)


class Update(Protocol):
    """Applies gradients to one player."""

    def unscale(self, player: "Player", step: int) -> None:
        """Unscale the gradient before it is examined."""

    def apply(self, player: "Player", gradient: Gradient) -> None:
        """Take a step, or skip the gradient.

        Raises:
            UserError: too many were skipped in a row.
        """


class HostUpdate:
    """Reads from the device whether the gradient is finite: for CPUs, where that costs nothing."""

    def unscale(self, player: "Player", step: int) -> None:
        """Do nothing: the gradient is not scaled."""

    def apply(self, player: "Player", gradient: Gradient) -> None:
        """Take a step if the gradient is finite."""
        if _is_good(player, gradient, warns=True):
            gradient.clip(player)
            # The raw optimizer: Lightning's wrapper would count each player's step as a step of the run.
            player.optimizer.step()


class DeviceUpdate:
    """Lets the optimizer's kernel skip the step: for GPUs, where reading would make the host wait."""

    def __init__(self, guard: LateGuard) -> None:
        self._guard = guard

    def unscale(self, player: "Player", step: int) -> None:
        """Do nothing: the gradient is not scaled."""

    def apply(self, player: "Player", gradient: Gradient) -> None:
        """Take a step if the gradient is finite."""
        unless = _judged(self._guard, player, gradient, warns=True)
        gradient.clip(player)
        step_unless(player.optimizer, unless)


class ScaledUpdate:
    """Training in fp16: too large a scale overflows, so the scaler skips such steps and halves the scale."""

    def __init__(self, scaler: torch.amp.GradScaler, guard: LateGuard | None) -> None:
        self._scaler, self._guard = scaler, guard

    def unscale(self, player: "Player", step: int) -> None:
        """Divide the gradient by the scale, so that clipping sees the true value."""
        if player.updated_in == step:
            self._scaler.update()  # it allows one unscaling per optimizer between two updates of its own
        self._scaler.unscale_(player.optimizer)

    def apply(self, player: "Player", gradient: Gradient) -> None:
        """Let the scaler step if the gradient is finite; its scale changes at the end of the step."""
        counted = gradient._replace(allowed=max(gradient.allowed, _HALVINGS))
        if self._guard is not None:
            _judged(self._guard, player, counted, warns=False)
        else:
            _is_good(player, counted, warns=False)
        gradient.clip(player)
        self._scaler.step(player.optimizer)


def update_of(player: "Player", scaler: Scaler, guard: LateGuard | None) -> Update:
    """Return how a player is updated.

    Args:
        player: with its optimizer.
        scaler: of fp16 training.
        guard: decides on the device; None if reading from the device is free.
    """
    late = guard if guard is not None and can_leave_out(player.optimizer) else None
    if scaler is not None:
        return ScaledUpdate(scaler, late)
    return HostUpdate() if late is None else DeviceUpdate(late)


def _judged(guard: LateGuard, player: "Player", gradient: Gradient, *, warns: bool) -> Tensor:
    return guard.judge(player.name, gradient.step, gradient.loss, gradient.bad, gradient.allowed, warns=warns)


def _is_good(player: "Player", gradient: Gradient, *, warns: bool) -> bool:
    """Return whether the gradient is finite; count consecutive non-finite ones."""
    if not gradient.bad.item():
        player.skipped = 0
        return True
    player.skipped += 1
    stops = player.skipped > gradient.allowed
    if stops or warns:
        left_out(player.name, gradient.step, gradient.loss.item(), stops=stops)
    return False
