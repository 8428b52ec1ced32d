"""Keeps the C library from returning freed memory to the system after each step."""

import ctypes
import platform

#: Parameters of `mallopt`, with the values of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MEGABYTE = 2**20


def keep_memory() -> bool:
    """Make this process keep freed memory for its whole life.

    By default glibc returns large blocks to the system at once and requests new ones in the next step, and the system
    fills all their pages with zeros. A step of training and a batch of images free and request the same blocks again
    and again, which costs large networks a tenth of their training time on CPUs, and EfficientNet-Lite0 at work more
    than half of its time (`benchmarks/evaluation.py`).

    Returns:
        Whether it succeeded; systems with another C library than glibc are left unchanged.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * _MEGABYTE}
    return all(library.mallopt(name, value) for name, value in settings.items())


def return_memory() -> None:
    """Return what this process has freed and kept to the system; for a server, between two requests."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
