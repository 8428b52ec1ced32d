"""What was read from files, kept until they change: the page asks for the same files every few seconds."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Read = TypeVar("Read")


class Kept(Generic[Read]):
    """Reads files once for each of their versions, by time and size; those that were used last are kept.

    Threads that ask for the same file wait for the first of them rather than read it as well.

    Args:
        read: reads a file, which may not exist.
        most: files to keep.
    """

    def __init__(self, read: Callable[[Path], Read], most: int) -> None:
        self._read, self._most = read, most
        self._found: OrderedDict[Path, tuple[tuple[int, int] | None, Read]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> Read:
        """Return what is in a file."""
        with self._lock:
            version = _version(path)
            kept = self._found.get(path)
            if kept is None or version is None or kept[0] != version:
                self._found[path] = kept = version, self._read(path)
            self._found.move_to_end(path)
            if len(self._found) > self._most:
                self._found.popitem(last=False)
            return kept[1]


def _version(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
