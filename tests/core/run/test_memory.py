"""A process keeps what it frees; looked at in processes of their own, since the setting holds for all of one."""

import platform
import subprocess
import sys

import pytest

from aigc_lightning.core.run import memory

PROGRAM = """
import ctypes
from pathlib import Path
from aigc_lightning.core.run.memory import keep_memory, return_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
{first}
size = 200 * 2**20
before = resident()
block = library.malloc(size)
ctypes.memset(block, 1, size)
library.free(block)
{then}
print((resident() - before) / size)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [("", "", 0), ("assert keep_memory()", "", 1), ("assert keep_memory()", "return_memory()", 0)],
    ids=["as usual", "kept", "returned"],
)
def test_what_is_freed_is_kept(first: str, then: str, kept: int) -> None:
    command = [sys.executable, "-c", PROGRAM.format(first=first, then=then)]
    share = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert share == pytest.approx(kept, abs=0.1)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked the C library"))
    assert memory.keep_memory() is False
    memory.return_memory()
