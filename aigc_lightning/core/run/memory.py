"""What the C library does with memory that a step has freed."""

import ctypes
import platform

#: Parameters of `mallopt`, by the numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_MEGABYTE = 2**20


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for as long as it lives.

    By default glibc gives large blocks back to the system at once and asks for new ones in the next step, and the
    system fills each of their pages with zeros before it hands it over. A training step frees and asks for the same
    blocks again and again, so that large networks spend a tenth of their time on processors in that.

    Returns:
        Whether it does: not on systems whose C library is not glibc, which are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * _MEGABYTE}
    return all(library.mallopt(name, value) for name, value in settings.items())
