"""Preparing a folder of images, see `prepared.py`: in parallel, and resumable after an interruption."""

import errno
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from io import BytesIO
from itertools import count, islice
from multiprocessing import active_children
from pathlib import Path
from typing import NamedTuple, TextIO

from filelock import FileLock, Timeout

from aigc_lightning.core.io.atomic import no_follow, replacing
from aigc_lightning.core.run.processes import clean_context, end, obey_parent_alone
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.folders.listing import PREPARED_FILE
from aigc_lightning.data.folders.prepared_format import (
    FILES_FILE,
    IMAGES_FILE,
    PreparedFile,
    Protocol,
    digest_of,
    lines_of,
    read_files,
    read_protocol,
    source_files,
)
from aigc_lightning.errors import UserError

_AT_ONCE = 32  # number of files per task
_COMMIT_S = 5.0  # seconds between two commits of the progress
_WAITING = 2  # number of pending tasks per process


class Prepared(NamedTuple):
    """The result of a preparation.

    Args:
        files: all files, including unreadable ones, sorted by name.
        made: number of files read in this call; the others had been read before.
    """

    files: list[PreparedFile]
    made: int


def prepare(
    protocol: Protocol, target: Path, num_processes: int, watch: Callable[[int, int], object] = lambda done, total: None
) -> Prepared:
    """Create a prepared folder, complete one, or update one from its source.

    Files with the same size and modification time as in an earlier call are not read again. Unreadable files are
    recorded with their reasons.

    Args:
        protocol: what to read and how.
        target: the folder to create.
        num_processes: number of decoding processes; with 1, the calling process decodes.
        watch: called with the number of files done and the total to be read.

    Raises:
        UserError: the target has other content or was prepared with other settings; there is not enough space; another
            process is preparing it; a process died.
    """
    before = read_protocol(target)
    if before is None and target.exists() and (not target.is_dir() or _holds_something(target)):
        raise UserError(f"{target} is not empty.", "Give a new folder, or one that was prepared earlier.")
    if before is not None and before.protocol != protocol:
        raise UserError(
            f"{target} was prepared from {before.protocol.source} as {before.protocol}.",
            "Give another folder, or remove this one.",
        )
    target.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target / ".lock", timeout=0):
            return _prepare(protocol, target, num_processes, watch)
    except Timeout as error:
        raise UserError(f"{target} is being prepared by another process.", "Wait for it, or stop it.") from error


def _prepare(protocol: Protocol, target: Path, num_processes: int, watch: Callable[[int, int], object]) -> Prepared:
    kept, todo = _plan(protocol, target)
    total = 1 + max((file.row for file in (*kept, *todo)), default=-1)
    _check_room(target, total * protocol.bytes_per_image)
    with replacing(target / PREPARED_FILE) as temporary:
        temporary.write_text(protocol.to_json(None), encoding="utf-8")
    _write_files(target, kept)  # before any row is overwritten
    done: list[PreparedFile] = []
    images_path, log_path = target / IMAGES_FILE, target / FILES_FILE
    with (
        open(images_path, "ab", opener=no_follow) as images,
        open(log_path, "a", encoding="ascii", opener=no_follow) as log,
    ):
        images.truncate(total * protocol.bytes_per_image)
        noted, due = 0, time.monotonic() + _COMMIT_S
        try:
            for part in _made(protocol, target, todo, num_processes):
                done += part
                watch(len(done), len(todo))
                if time.monotonic() > due:
                    _note(images.fileno(), log, done[noted:])
                    noted, due = len(done), time.monotonic() + _COMMIT_S
        finally:
            _note(images.fileno(), log, done[noted:])
    files = sorted((*kept, *done))
    _write_files(target, files)
    with replacing(target / PREPARED_FILE) as temporary:
        temporary.write_text(protocol.to_json(digest_of(files)), encoding="utf-8")
    return Prepared(files, len(done))


def _plan(protocol: Protocol, target: Path) -> tuple[list[PreparedFile], list[PreparedFile]]:
    """Return the files that need not be read again, and the others with a free row each."""
    known = {file.name: file for file in _whole(protocol, target)}
    kept, todo = [], []
    for name, size, modified in source_files(protocol.source):
        if name in known and known[name][1:3] == (size, modified):
            kept.append(known[name])
        else:
            todo.append(PreparedFile(name, size, modified, -1))
    used = {file.row for file in kept}
    free = (row for row in count() if row not in used)
    return kept, [file._replace(row=row) for file, row in zip(todo, free, strict=False)]


def _whole(protocol: Protocol, target: Path) -> Iterator[PreparedFile]:
    """Yield the files of an earlier call whose images are intact, and those that have none."""
    path, size = target / IMAGES_FILE, protocol.bytes_per_image
    files, _ = read_files(target)
    with path.open("rb") if path.is_file() else BytesIO() as images:
        for file in sorted(files, key=lambda file: file.row):  # so that the disk is read in order
            if file.row < 0:
                yield file
                continue
            images.seek(file.row * size)
            image = images.read(size)
            checksum = zlib.crc32(image)
            if len(image) == size and file.checksum in (-1, checksum):  # version 0.1 wrote none
                yield file._replace(checksum=checksum)


def _made(
    protocol: Protocol, target: Path, files: Sequence[PreparedFile], num_processes: int
) -> Iterator[list[PreparedFile]]:
    """Yield batches of files whose images have been written, in any order."""
    make = partial(_make, protocol, target / IMAGES_FILE)
    parts = (files[first : first + _AT_ONCE] for first in range(0, len(files), _AT_ONCE))
    if num_processes == 1:
        yield from map(make, parts)
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(num_processes, clean_context(), initializer=obey_parent_alone)
    waiting: set[Future[list[PreparedFile]]] = set()
    try:
        waiting |= {pool.submit(make, part) for part in islice(parts, _WAITING * num_processes)}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(make, part) for part in islice(parts, len(ready))}
            for future in ready:
                yield future.result()
    except BrokenProcessPool as error:
        hint = "The machine may be out of memory: use fewer --workers. The same command continues."
        raise UserError("A decoding process has died.", hint) from error
    finally:
        pool.shutdown(wait=not waiting, cancel_futures=True)
        end(set(active_children()) - others)  # still working after an interruption


def _make(protocol: Protocol, path: Path, files: Sequence[PreparedFile]) -> list[PreparedFile]:
    """Write the images of some files to their rows; return the files, unreadable ones without a row."""
    (channels, height, width), size = protocol.shape, protocol.bytes_per_image
    sides = height, width
    read = partial(decode, channels=channels, size=sides, resize=protocol.resize, profile=protocol.profile)
    made = []
    with open(path, "r+b", opener=no_follow) as images:
        for file in files:
            try:
                image = read(protocol.source / file.name)
            except CorruptImageError as error:
                made.append(file._replace(row=-1, reason=error.reason))
                continue
            pixels = image.numpy().tobytes()
            if os.pwrite(images.fileno(), pixels, file.row * size) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            made.append(file._replace(checksum=zlib.crc32(pixels)))
    return made


def _note(images: int, log: TextIO, files: Sequence[PreparedFile]) -> None:
    """Record the progress, once the images are on the disk."""
    os.fsync(images)
    log.writelines(lines_of(files))
    log.flush()
    os.fsync(log.fileno())


def _write_files(target: Path, files: Sequence[PreparedFile]) -> None:
    with replacing(target / FILES_FILE) as temporary, temporary.open("w", encoding="ascii") as log:
        log.writelines(lines_of(files))


def _check_room(target: Path, needed: int) -> None:
    path = target / IMAGES_FILE
    there = path.stat().st_blocks * 512 if path.is_file() else 0  # it may be sparse
    free = shutil.disk_usage(target).free
    if needed - there > free:
        raise UserError(
            f"{target} has {free / 1e9:.1f} GB free, but {(needed - there) / 1e9:.1f} GB are needed.",
            "Choose another disk or a smaller --size.",
        )


def _holds_something(folder: Path) -> bool:
    return any(not entry.name.startswith(".") for entry in os.scandir(folder))
