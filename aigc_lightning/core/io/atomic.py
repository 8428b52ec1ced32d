"""Files: written so that they are the old one or the new one, and read and written where they seem to be.

A link or a FIFO may have been laid into a folder that comes from somebody else. Results are never written through a
link, and nothing waits for what is no file.
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

#: Names of files that are being written, with the process that writes them.
_PIECE = re.compile(r"\..+\.(\d+)(\.[0-9a-f]{8})?\.tmp", re.DOTALL)
#: What a system says when a file cannot grow: the disk is full, the user's share of it, or the largest size is reached.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEARLY_NOTHING = 2**16  # bytes free below which an error of a library without a number means a full disk
_NAME_BYTES = 200  # of a name that stay in the name of its piece


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, the file there takes its place.

    The file reaches the disk before it takes the old one's name, and the folder after, so a crash or a full disk leaves
    the old file whole. A link at `path` is replaced, not followed.

    Raises:
        OSError: the file cannot be written; it names `path`, also where the block's own error does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beginning = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])  # of names that are as long as they may be
    # Processes on two machines may have one number.
    temporary = path.with_name(f".{beginning}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        _create(temporary)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
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
    """Return whether an error says that there is no room left."""
    return error.errno in _FULL


def open_regular(path: str | Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: it is missing, or no regular file: a FIFO or a device could keep a reader waiting for ever.
    """
    return open(path, "rb", opener=_regular)


def check_regular(path: str | Path) -> None:
    """Check that a path is a regular file, for libraries that open it themselves.

    Raises:
        OSError: it is missing, or something else.
    """
    _check_regular(os.stat(path), path)


def no_follow(path: str, flags: int) -> int:
    """Open a regular file but no link, for the argument `opener` of `open`.

    Raises:
        OSError: it is a link or no regular file, or cannot be opened.
    """
    if os.path.islink(path):  # systems without O_NOFOLLOW, and a better message
        raise OSError(errno.ELOOP, "it is a link, and nothing is written through links", path)
    return _regular(path, flags | getattr(os, "O_NOFOLLOW", 0))


def inside(folder: Path, *parts: str | Path) -> Path:
    """Return the path of a file below a folder that is to be written.

    Raises:
        UserError: a link on the way leads out of the folder.
    """
    path = folder.joinpath(*parts)
    _check_inside(path.parent, folder, "written")
    return path


def found_inside(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder that is to be read, whether or not it is there.

    Raises:
        UserError: it is a link out of the folder.
    """
    path = folder / name
    if path.is_symlink():
        _check_inside(path, folder, "read")
    return path


def private_folder(path: Path) -> Path:
    """Make and return a folder that only this user can write, for a place where others may have made it before.

    Raises:
        UserError: somebody else owns it or can write in it, or it is a link.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    status = path.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & others
    ):
        raise UserError(f"{path} is not a folder of yours alone.", "Remove it, or choose another folder.")
    return path


def _check_inside(path: Path, folder: Path, done: str) -> None:
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        what = f"{path} leads to {real} by a link, out of {folder}: nothing is {done} there."
        raise UserError(what, "Put the folder or file itself in the place of the link.")


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
    """Make an empty file; a file or link of this name is what a process of the same number has left, or a trap."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _written(error: Exception, temporary: Path, path: Path) -> OSError | None:
    """Return an error that names a file as the user knows it; None for errors that are not about writing it."""
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
        # torch's writer, numpy and Pillow know that something is missing and not why, such as by a user's quota.
        return OSError(errno.EIO, "It could not be written whole; the disk may be full", str(path))
    if not isinstance(error, OSError):
        return None
    if error.filename is None and error.errno not in (errno.EIO, errno.EROFS):
        return None  # it may be about anything that the block does
    ours = (None, str(temporary), temporary)
    return OSError(error.errno, error.strerror, str(path)) if error.filename in ours else None


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
