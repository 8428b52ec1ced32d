"""Sums over processes by shared memory, in processes that are started for it."""

import os
import platform
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from aigc_lightning.core.engine import shared_memory
from aigc_lightning.core.engine.shared_memory import open_shared_memory
from aigc_lightning.core.run.processes import run_together

POSSIBLE = sys.platform == "linux" and platform.machine() == "x86_64"
needs_it = pytest.mark.skipif(not POSSIBLE, reason="only on Linux with an x86 processor")
LONG = timedelta(minutes=3)
SIZES = [1, 1000, shared_memory._PART_BYTES // 4 + 7]  # the last needs two parts


def share(rank, tensor):
    return (tensor * (rank + 1)).sin()


def sums(memory, rank, size):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for count in SIZES:
            tensor = torch.linspace(0, 3, count, dtype=dtype)
            mine = share(rank, tensor)
            memory.sum_(mine)
            shares = torch.stack([share(number, tensor) for number in range(size)])
            torch.testing.assert_close(mine, shares.sum(dim=0))
            others = [torch.empty_like(mine) for _ in range(size)]
            dist.all_gather(others, mine)
            assert all(torch.equal(mine, other) for other in others)
    for number in range(300):  # more than there are places, with processes of different speed
        if number % 50 == rank:
            time.sleep(0.02)
        tensor = torch.full((10,), float(number + rank))
        memory.sum_(tensor)
        assert torch.equal(tensor, torch.full((10,), float(number * size + size * (size - 1) // 2)))


def one_ends(memory, rank, size):
    if rank == 1:
        os._exit(0)
    with pytest.raises(RuntimeError, match="Process 1 has ended"):
        memory.sum_(torch.ones(3))


def one_closes(memory, rank, size):
    """As after an error, when the process has yet to say it."""
    if rank == 1:
        memory.close()
        time.sleep(3)
        return
    with pytest.raises(RuntimeError, match="Process 1 has ended"):
        memory.sum_(torch.ones(3))


def one_is_late(memory, rank, size):
    if rank == 1:
        time.sleep(3)
        return
    with pytest.raises(RuntimeError, match="Process 1 did not average its gradients within 0:00:01"):
        memory.sum_(torch.ones(3))


def there_is_none(memory, rank, size):
    assert memory is None


def no_room(rank):
    setattr(os, "posix_fallocate", refuse)  # noqa: B010  # it is the module that is changed


def refuse(*_):
    raise OSError(28, "No space left on device")


def another_machine(rank):
    if rank == 1:
        shared_memory._joined = lambda path, rank: None


def another_folder(folder, rank):
    shared_memory._FOLDER = folder


def run(rank, size, meeting, what, before, timeout):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=size, timeout=LONG)
    if before is not None:
        before(rank)
    what(open_shared_memory(timeout), rank, size)
    os._exit(0)  # without waiting for the others, which may be gone


def started(tmp_path, what, size=2, before=None, timeout=LONG):
    run_together(run, size, tmp_path / "meeting", what, before, timeout, count=size, limit_s=120)


@needs_it
@pytest.mark.parametrize("size", [2, 3])
def test_all_processes_get_the_same_sum(size, tmp_path):
    before = set(Path("/dev/shm").glob("aigc_*"))
    started(tmp_path, sums, size)
    assert set(Path("/dev/shm").glob("aigc_*")) <= before


@needs_it
@pytest.mark.parametrize("what", [one_ends, one_closes])
def test_a_process_that_ends_is_noticed(what, tmp_path):
    began = time.monotonic()
    started(tmp_path, what)
    assert time.monotonic() - began < 60


@needs_it
def test_a_process_that_is_late_is_waited_for_as_long_as_was_asked(tmp_path):
    started(tmp_path, one_is_late, timeout=timedelta(seconds=1))


@pytest.mark.parametrize("before", [no_room, another_machine])
def test_where_memory_cannot_be_shared_all_processes_know_it(before, tmp_path):
    started(tmp_path, there_is_none, before=before)


def test_a_folder_that_is_missing_is_no_error(tmp_path):
    started(tmp_path, there_is_none, before=partial(another_folder, tmp_path / "missing"))
