"""Sums over the processes of one machine, by memory that they share.

On CPUs processes meet once per update, and gloo, which sends through sockets, needs 2 to 5 milliseconds for the
gradients of a small network: as long as a tenth of a step. Here each process writes its part where the others read it.
"""

import mmap
import os
import platform
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from aigc_lightning.core.run.collectives import everyones

_FOLDER = Path("/dev/shm")
_PART_BYTES = 2 * 2**20  # of each process at a time
_PAGE_BYTES = 4096  # of the counters
_MOST_PROCESSES = 16  # every process reads the parts of all, so the work grows with their square
_AWAKE_S = 0.002  # how long a process looks without a pause, and after that how often
_PAUSE_S = 0.0005
_LIFE_S = 0.1  # how often it is checked whether the others live


class SharedMemory:
    """Sums tensors over all processes, in place. Only `open_shared_memory` creates it.

    Args:
        file: descriptor of the memory, of `size_of` bytes; this process has locked the byte of its rank.
        rank: of this process.
        world_size: number of processes.
        timeout: how long to wait for another process.
    """

    def __init__(self, file: int, rank: int, world_size: int, timeout: timedelta) -> None:
        self._file, self._rank, self._world_size, self._timeout = file, rank, world_size, timeout
        memory = torch.frombuffer(mmap.mmap(file, size_of(world_size)), dtype=torch.uint8)
        # What each process has written so far, counted; x86 processors show writes to others in their order.
        self._written = memory[:_PAGE_BYTES].numpy().view(np.int64)
        # Two places per process, used in turns: a process writes to one again when all have read it, since by then all
        # have written to the other.
        self._places = memory[_PAGE_BYTES:].view(2, world_size, _PART_BYTES)
        self._count = 0

    def sum_(self, tensor: Tensor) -> None:
        """Replace a contiguous tensor on the CPU by its sum over all processes: the same bits in each.

        Raises:
            RuntimeError: another process has ended, or did not come in time.
        """
        for part in tensor.view(-1).split(_PART_BYTES // tensor.element_size()):
            self._count += 1
            places = self._places[self._count % 2].view(tensor.dtype)[:, : len(part)]
            places[self._rank].copy_(part)
            self._written[self._rank] = self._count
            for rank in range(self._world_size):
                self._wait(rank)
            torch.sum(places, dim=0, out=part)

    def close(self) -> None:
        """Give up the memory and the lock that says that this process lives."""
        os.close(self._file)

    def _wait(self, rank: int) -> None:
        began = time.monotonic()
        checked = began
        while self._written[rank] < self._count:
            now = time.monotonic()
            if now - began < _AWAKE_S:
                os.sched_yield()
                continue
            time.sleep(_PAUSE_S)
            if now - checked > _LIFE_S:
                checked = now
                self._check(rank, now - began)

    def _check(self, rank: int, waited: float) -> None:
        if waited > self._timeout.total_seconds():
            raise RuntimeError(f"Process {rank} did not average its gradients within {self._timeout}.")
        # A process may write its last part and end before it is looked for here.
        if _lives(self._file, rank) or self._written[rank] >= self._count:
            return
        raise RuntimeError(f"Process {rank} has ended, so its gradients are missing.")


def open_shared_memory(timeout: timedelta) -> SharedMemory | None:
    """Return memory that all processes share, or None where that cannot be; every process must call this.

    It cannot be where they are on several machines or in containers that share nothing, on other systems than Linux,
    and on processors other than x86, which may show writes to others in another order.

    Args:
        timeout: how long processes wait for one another.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    possible = sys.platform == "linux" and platform.machine() == "x86_64" and world_size <= _MOST_PROCESSES
    path = everyones(_created(size_of(world_size)) if possible and rank == 0 else None)[0]
    try:
        file = _joined(path, rank) if path is not None and possible else None
        all_joined = all(everyones(file is not None))
    finally:
        if path is not None and rank == 0:
            path.unlink()  # it lives as long as a process has it open
    if all_joined and file is not None:
        return SharedMemory(file, rank, world_size, timeout)
    if file is not None:
        os.close(file)
    return None


def size_of(world_size: int) -> int:
    """Return the bytes that a number of processes share."""
    return _PAGE_BYTES + 2 * world_size * _PART_BYTES


def _created(size: int) -> Path | None:
    """Return a new file of zeros in memory, or None if there is no room; reading it could end the process otherwise."""
    try:
        file, name = tempfile.mkstemp(prefix="aigc_", dir=_FOLDER)
    except OSError:
        return None
    try:
        os.posix_fallocate(file, 0, size)
    except OSError:
        os.unlink(name)
        return None
    finally:
        os.close(file)
    return Path(name)


def _joined(path: Path, rank: int) -> int | None:
    """Open the memory and lock the byte of a rank; the system unlocks it when the process ends, however it ends."""
    import fcntl  # not on Windows

    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return None
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
    return file


def _lives(file: int, rank: int) -> bool:
    """Return whether the process that locked the byte of a rank holds it."""
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, rank)
    except OSError:
        return True
    fcntl.lockf(file, fcntl.LOCK_UN, 1, rank)
    return False
