"""Atomic file writes, and protection against links when reading and writing.

A folder from somebody else may contain a link or a FIFO. Results are never written through a link, and only regular
files are read, so that nothing blocks.
"""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from aigc_lightning.errors import UserError

#: Names of temporary files that are being written, with the id of the writing process.
_PIECE = re.compile(r"\..+\.(\d+)(\.[0-9a-f]{8})?\.tmp", re.DOTALL)
#: Error numbers for a file that cannot grow: the disk is full, or a quota or the maximum file size is reached.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEARLY_NOTHING = 2**16  # free bytes below which a library's error without an error number means a full disk
_NAME_BYTES = 200  # of a name that are kept in the name of its temporary file


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; if the block succeeds, the file there replaces `path`.

    A link at `path` is replaced, not followed.

    Args:
        path: the file.
        durable: flush the file to disk before the rename, and the folder after it, so that even a power failure leaves
            the old file or the new one. Not worth its time for files that are quickly made again.

    Raises:
        OSError: the file cannot be written; the error names `path` even if the block's own error does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beginning = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])  # names may already have the maximum length
    # Processes on two machines may have the same id.
    temporary = path.with_name(f".{beginning}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        _create(temporary)
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    except Exception as error:
        known = _written(error, temporary, path)
        if known is None:
            raise
        raise known from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Return whether an error means that there is no space left."""
    return error.errno in _FULL


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: it is missing or not a regular file; a FIFO or a device could block a reader forever.
    """
    return open(path, "rb", opener=_regular)


def check_regular(path: str | Path) -> None:
    """Check that a path is a regular file, for libraries that open it themselves.

    Raises:
        OSError: it is missing or not a regular file.
    """
    _check_regular(os.stat(path), path)


def no_follow(path: str, flags: int) -> int:
    """Open a regular file without following links, for the argument `opener` of `open`.

    Raises:
        OSError: it is a link, not a regular file, or cannot be opened.
    """
    if os.path.islink(path):  # for systems without O_NOFOLLOW, and for a better message
        raise OSError(errno.ELOOP, "it is a link, and nothing is written through links", path)
    return _regular(path, flags | getattr(os, "O_NOFOLLOW", 0))


def inside(folder: Path, *parts: str | Path) -> Path:
    """Return the path, for writing, of a file below a folder.

    Raises:
        UserError: a link on the way leads out of the folder.
    """
    path = folder.joinpath(*parts)
    _check_inside(path.parent, folder, "written")
    return path


def found_inside(folder: Path, name: str) -> Path:
    """Return the path, for reading, of a file in a folder, whether or not it exists.

    Raises:
        UserError: it is a link that leads out of the folder.
    """
    path = folder / name
    if path.is_symlink():
        _check_inside(path, folder, "read")
    return path


def private_folder(path: Path) -> Path:
    """Create and return a folder that only this user can write to, where others may have created it before.

    Raises:
        UserError: somebody else owns it or can write to it, or it is a link.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    status = path.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & others
    ):
        raise UserError(f"{path} is not a folder that only you can write to.", "Remove it, or choose another folder.")
    return path


def _check_inside(path: Path, folder: Path, done: str) -> None:
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        what = f"{path} is a link to {real}, outside of {folder}: nothing is {done} there."
        raise UserError(what, "Replace the link by the folder or file itself.")


def _regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    try:
        _check_regular(os.fstat(handle), path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check_regular(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _create(path: Path) -> None:
    """Create an empty file; an existing one was left by a process with the same id, or is a trap, and is removed."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _written(error: Exception, temporary: Path, path: Path) -> OSError | None:
    """Return an error that names the user's file; None for errors that are not about writing it."""
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    numbers = [cause.errno for cause in chain if isinstance(cause, OSError)]
    numbers += [int(found[1]) for cause in chain if (found := re.search(r"\(os error (\d+)\)", str(cause)))]
    full = next((number for number in numbers if number in _FULL), None)
    if full is None and not isinstance(error, UserError) and shutil.disk_usage(path.parent).free < _NEARLY_NOTHING:
        full = errno.ENOSPC  # torch and Pillow do not say so
    if full is not None:
        return OSError(full, os.strerror(full), str(path))
    if any("inline_container" in str(cause) for cause in chain) or (isinstance(error, OSError) and error.errno is None):
        # torch's writer, numpy and Pillow report that bytes are missing but not why, such as a user's quota.
        return OSError(errno.EIO, "It could not be written completely; the disk may be full", str(path))
    if not isinstance(error, OSError):
        return None
    if error.filename is None and error.errno not in (errno.EIO, errno.EROFS):
        return None  # it may concern anything that the block does
    ours = (None, str(temporary), temporary)
    return OSError(error.errno, error.strerror, str(path)) if error.filename in ours else None


def remove_pieces(folder: Path, own: str) -> None:
    """Remove temporary files that killed processes left in a folder and below.

    Args:
        folder: the folder.
        own: name of the folders in which only this process writes; elsewhere, files of living processes are kept.
    """
    for path in folder.rglob(".*.tmp"):
        found = _PIECE.fullmatch(path.name)
        if found and (path.parent.name == own or not is_alive(int(found[1])) or int(found[1]) == os.getpid()):
            path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether a process with this id exists on this machine; True if that cannot be determined."""
    if os.name == "nt":  # signal 0 would be Ctrl-C there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
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
