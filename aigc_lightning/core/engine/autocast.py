"""Mixed precision: where it has to stop."""

from contextlib import AbstractContextManager, nullcontext

import torch

_NOTHING = nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operations on a device work in the types of their arguments.

    Gradients are computed in it: each has the type of what it belongs to already, and autocast would halve those of
    float32 operations, too.
    """
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else _NOTHING
