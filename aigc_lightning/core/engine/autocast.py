"""Where mixed precision has to be switched off."""

from contextlib import AbstractContextManager, nullcontext

import torch

_NOTHING = nullcontext()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which operations on a device use the dtypes of their arguments.

    Gradients are computed in it: each already has the dtype of its tensor, and autocast would also reduce the precision
    of those of float32 operations.
    """
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else _NOTHING
