"""Files that are either the old one or the new one, whatever happens in between."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Names of files that are being written, with the process that writes them.
_PIECE = re.compile(r"\..+\.(\d+)(\.[0-9a-f]{8})?\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, the file there takes its place.

    The file reaches the disk before it takes the old one's name, and the folder after, so a crash or a full disk leaves
    the old file whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes on two machines may have one number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_pieces(folder: Path, own: str) -> None:
    """Remove what processes that were killed had begun to write in a folder and below.

    Args:
        folder: the folder.
        own: name of the folders in which nobody but this process writes; elsewhere, files of living processes are
            left alone.
    """
    for path in folder.rglob(".*.tmp"):
        found = _PIECE.fullmatch(path.name)
        if found and (path.parent.name == own or not is_alive(int(found[1])) or int(found[1]) == os.getpid()):
            path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine; True where that cannot be known."""
    if os.name == "nt":  # signal 0 would be Ctrl-C there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
