"""A data loader whose position follows the trainer's."""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader

from aigc_lightning.core.run.processes import awaiting
from aigc_lightning.core.run.signals import PATIENCE_S
from aigc_lightning.errors import UserError

_END = 1.0  # seconds
_SHARED_MEMORY = "/dev/shm"
_SMALL = 2**30  # bytes of shared memory that are scarce for loader processes


def as_fetched(batch: Any) -> Any:
    """Return the batch unchanged: `ImageSamples` fetches whole batches."""
    return batch


def _watched(iterator: Any) -> Iterator[Any]:
    """Yield the batches of loader processes.

    Raises:
        UserError: a process has died, there is no shared memory for its batches, or none answers after this one was
            asked to end.
    """
    while True:
        with awaiting(iterator._workers) as awaited:
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except Exception as error:  # whatever comes first: a closed pipe, a missing answer, a signal
                _explain_shortage(error)
                if plain := _said_plainly(iterator._workers, in_vain=awaited.ended):
                    raise plain from error
                raise
        yield batch


def _said_plainly(workers: Sequence[BaseProcess], *, in_vain: bool) -> UserError | None:
    if in_vain:
        return UserError(
            f"The data loader processes have not responded for {PATIENCE_S:.0f} s and were terminated.",
            "Check that the disk responds. Continue from the last checkpoint with --resume.",
        )
    wait([worker.sentinel for worker in workers], _END)  # the pipe may close before the process ends
    dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
    if not dead:
        return None
    small = _shared_memory()
    cause = f"{_SHARED_MEMORY} of {small} MB" if small is not None else "machine's memory"
    return UserError(
        f"A data loader process has died (exit code {dead[0].exitcode}).",
        f"The {cause} may be full: try fewer --data.num_workers. Continue from the last checkpoint with --resume.",
    )


def _explain_shortage(error: Exception) -> None:
    """Raise a clear error if the shared memory of loader processes is full.

    Raises:
        UserError: it is full.
    """
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
    if full or (isinstance(error, RuntimeError) and "shared memory" in str(error)):
        size = _shared_memory()
        raise UserError(
            f"The shared memory of this machine ({_SHARED_MEMORY}{'' if size is None else f', {size} MB'}) is full; "
            "loader processes pass batches through it.",
            "Use --data.num_workers 0, or make it larger: `docker run --shm-size 2g` in a container.",
        ) from error


def _shared_memory() -> int | None:
    """Return the size of the shared memory in megabytes; None if it is large or unknown."""
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except (OSError, AttributeError):
        return None
    size = status.f_blocks * status.f_frsize
    return size // 2**20 if size < _SMALL else None


class StreamLoader(DataLoader[Any]):
    """A loader whose position in the data follows from the sampler's.

    Lightning asks loaders for their state to resume mid-epoch; here the position is the trainer's batch count, which
    Lightning restores by itself, so there is nothing to save.
    """

    #: Seconds spent waiting for batches or, without loader processes, making them.
    seconds_waited = 0.0

    def __iter__(self) -> Any:
        """Iterate, measure the waiting time, and raise a clear error if a loader process dies or cannot start.

        Raises:
            UserError: a loader process died or could not start.
        """
        try:
            iterator = super().__iter__()
        except (OSError, RuntimeError) as error:
            _explain_shortage(error)
            raise
        return self._timed(_watched(iterator) if self.num_workers > 0 else iterator)

    def _timed(self, iterator: Iterator[Any]) -> Iterator[Any]:
        while True:
            begin = time.perf_counter()
            with torch.inference_mode(False):  # sources may cache what they create here for training steps
                batch = next(iterator, None)
            self.seconds_waited += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: the position is the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept the empty state of `state_dict`."""
