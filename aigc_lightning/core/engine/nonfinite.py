"""Updates with non-finite gradients: skipped, counted, and an error once there are too many.

Where reading from the device is free, the decision is made at once. On a GPU the host would have to wait, so there the
optimizer's own kernel skips the update, and the host reads one step later what happened.
"""

import logging
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from aigc_lightning.core.async_read import Late
from aigc_lightning.errors import UserError

_log = logging.getLogger(__name__)
_ones: dict[torch.device, Tensor] = {}


def overflow(gradients: list[Tensor]) -> Tensor:
    """Return 1 if any number among the gradients is not finite and 0 otherwise, on their device."""
    first = gradients[0]
    checked = first.device.type in ("cpu", "cuda") and first.is_floating_point()
    if not checked or any(gradient.dtype != first.dtype for gradient in gradients):
        return torch.isfinite(get_total_norm(gradients)).logical_not().float()
    found = torch.zeros((), dtype=torch.float32, device=first.device)
    one = _ones.get(first.device)
    if one is None:
        one = _ones[first.device] = torch.ones_like(found)
    # One pass over all of them, multiplying by 1; the kernel that GradScaler calls.
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, one)
    return found


def left_out(player: str, number: int, loss: float, *, stops: bool) -> None:
    """Log that an update was skipped, or stop the run.

    Raises:
        UserError: the run stops.
    """
    what = f"The gradient of the {player} is not finite at step {number} (its loss is {loss:.4g})"
    if stops:
        raise UserError(
            f"{what}.",
            "Its weights are unchanged. Start a new run with a smaller learning rate or --engine.clip_norm, "
            "or allow some updates to be skipped with --engine.max_skipped.",
        )
    _log.warning("%s; this update is skipped.", what)


@dataclass
class _Update:
    player: str
    step: int
    warns: bool


class LateGuard:
    """Skips updates on the device and reads one step later which were skipped.

    Once an update is to stop the run, no later one changes any weight, although the host does not know of it yet.
    """

    def __init__(self) -> None:
        self._skipped: dict[str, Tensor] = {}  # consecutive skipped updates, by player
        self._halted: Tensor | None = None  # 1 once the run is to stop
        self._updates: list[_Update] = []  # of the present step
        self._numbers: list[Tensor] = []  # for each of them: whether it was skipped, whether the run stops, the loss
        self._sent: deque[tuple[list[_Update], Late]] = deque()

    def judge(self, player: str, step: int, loss: Tensor, bad: Tensor, allowed: int, *, warns: bool) -> Tensor:
        """Return 1 if the update has to be skipped and 0 otherwise, on the device.

        Args:
            player: its name.
            step: number of the step.
            loss: for the message.
            bad: 1 if its gradient is not finite, else 0.
            allowed: consecutive updates that may be skipped.
            warns: whether to log each skipped update.
        """
        skipped = bad if player not in self._skipped else (self._skipped[player] + 1) * bad
        stops = (skipped > allowed).float()
        self._halted = stops if self._halted is None else torch.maximum(self._halted, stops)
        self._skipped[player] = skipped
        self._updates.append(_Update(player, step, warns))
        self._numbers += [bad, self._halted, loss.detach().float()]
        return torch.maximum(bad, self._halted)

    def end_step(self) -> None:
        """Send this step's flags to the host, and read those of the previous step.

        Raises:
            UserError: an update of the previous step stops the run.
        """
        if self._updates:
            self._sent.append((self._updates, Late(torch.stack(self._numbers))))
            self._updates, self._numbers = [], []
        while len(self._sent) > 1:
            self._read()

    def settle(self) -> None:
        """Read all pending flags, as before a checkpoint is written.

        Raises:
            UserError: an update stops the run.
        """
        while self._sent:
            self._read()

    def _read(self) -> None:
        updates, late = self._sent.popleft()
        numbers = late.read()
        for update, bad, halted, loss in zip(updates, numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            if halted or (bad and update.warns):
                left_out(update.player, update.step, loss, stops=bool(halted))
