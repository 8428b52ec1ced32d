"""Asynchronous reads from the device: numbers are read once they have arrived, so the host never waits."""

import torch
from torch import Tensor


def waits(device: torch.device) -> bool:
    """Whether reading a number from this device makes the host wait for it."""
    return device.type == "cuda"


class Late:
    """A tensor on its way to the host.

    On a GPU the copy is queued behind the work that computes the tensor; reading it waits for that work only, not for
    what was queued afterwards. On other devices reading is free.

    Args:
        value: any tensor.
    """

    def __init__(self, value: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._value = value.detach()
        if value.is_cuda:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> list[float]:
        """Return the numbers, flattened."""
        if self._arrived is not None:
            self._arrived.synchronize()
        numbers: list[float] = self._value.flatten().tolist()
        return numbers
