"""A lock that lets only one process train in a run folder at a time.

A claim consists of a lock on `.lock`, which the system releases however its process ends, and a record in
`running.json`, which tells people and other machines who holds it. On network disks without such locks, or with locks
that other machines do not see, only the record counts: its holder touches it every few seconds, and a process that
finds another machine's record watches it for a while before it takes the folder over.
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aigc_lightning.core.io.atomic import is_alive
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.folder import PROBE, run_numbers, unwritable
from aigc_lightning.errors import UserError

#: Names of the two files in the run folder.
LOCK_FILE, RUNNING_FILE = ".lock", "running.json"
_SECONDS_TO_WRITE = 2.0  # the record, on a busy machine
_BEAT = 10.0  # seconds between two heartbeats of the record
_SILENCE = 45.0  # seconds without a heartbeat after which a process on another machine counts as ended


class RunInUseError(UserError):
    """Another process is training in the run folder.

    Args:
        folder: the run folder.
        holder: description of the other process.
        hint: what to do.
    """

    def __init__(self, folder: Path, holder: str, hint: str) -> None:
        super().__init__(f"The run {folder} is in use by {holder}.", hint)


@dataclass(frozen=True)
class Holder:
    """The process that holds a run folder.

    Args:
        host: name of the machine.
        pid: number of the process there.
        began: when it claimed the folder, for display.
        process_start: when the process started, in the machine's ticks; "" if unknown. It distinguishes a process from
            a later one with the same id.
    """

    host: str
    pid: int
    began: str
    process_start: str = ""

    def __str__(self) -> str:
        """Describe the process for people."""
        return f"process {self.pid} on {self.host} (since {self.began})"

    @property
    def named(self) -> str:
        """The description, capitalized to begin a sentence."""
        return f"P{str(self)[1:]}"

    @classmethod
    def here(cls) -> "Holder":
        """Return this process."""
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), now, _process_start(os.getpid()))

    @property
    def is_alive_here(self) -> bool:
        """Whether the process is running; for holders on this machine."""
        return is_alive(self.pid) and self.process_start == _process_start(self.pid)


class RunLock:
    """This process's claim on a run folder, until `release` or the end of the process.

    Args:
        folder: the existing run folder.

    Raises:
        RunInUseError: another process holds it.
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: What the user should know: a process ended without releasing the folder, or it is not the one asked for.
        self.note = ""
        self._path = folder / RUNNING_FILE
        self._lock = FileLock(folder / LOCK_FILE, thread_local=False)
        self._ended = threading.Event()
        try:
            locks = self._acquire()
            self._take_over(locks)
            self._write()
        except OSError as error:
            self._lock.release(force=True)
            raise unwritable(folder, error) from error
        except BaseException:
            self._lock.release(force=True)
            raise
        threading.Thread(target=self._beat, name="run-lock", daemon=True).start()

    def release(self) -> None:
        """Release the folder."""
        self._ended.set()
        with suppress(OSError):  # the folder may be gone
            self._path.unlink(missing_ok=True)
        self._lock.release(force=True)

    def _acquire(self) -> bool:
        """Take the system's lock; return whether this disk has locks."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise self._in_use(self._record_of_holder()) from None
        except PermissionError:
            raise
        except (OSError, NotImplementedError):
            return False
        return True

    def _record_of_holder(self) -> Holder | None:
        """Return the record of the process that holds the lock, which writes it right after it takes the lock."""
        until = time.monotonic() + _SECONDS_TO_WRITE
        while (holder := _read(self._path)) is None and time.monotonic() < until:
            time.sleep(0.02)
        return holder

    def _take_over(self, locks: bool) -> None:
        """Make sure that the process of a leftover record has ended."""
        former = _read(self._path)
        if former is None:  # none, or a truncated one; without locks it may still be being written
            if not locks and self._path.exists():
                time.sleep(1)
                former = _read(self._path)
            if former is None:
                self._path.unlink(missing_ok=True)
                return
        here = former.host == socket.gethostname()
        # On a disk with locks, a process on this machine would still hold the lock.
        alive = (not locks and former.is_alive_here) if here else self._is_touched(former)
        if alive:
            raise self._in_use(former)
        self.note = f"{former.named} ended without releasing {self.folder}; this process takes it over."
        self._path.unlink(missing_ok=True)

    def _is_touched(self, former: Holder) -> bool:
        line = f"{former.named} may be training in {self.folder}: watching for {_SILENCE:.0f} s whether it is."
        echo(line, flush=True)
        first, until = _touched(self._path), time.monotonic() + _SILENCE
        while time.monotonic() < until:
            time.sleep(min(1.0, _SILENCE / 10))
            if _touched(self._path) != first:
                return _read(self._path) is not None  # else it has released the folder meanwhile
        return False

    def _write(self) -> None:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # on a disk without locks another process was faster
            raise self._in_use(_read(self._path)) from None
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(Holder.here()), file, indent=1)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            with suppress(OSError):  # the disk may be unavailable for a while
                os.utime(self._path)

    def _in_use(self, holder: Holder | None) -> RunInUseError:
        other = "Or start another run, in another folder (--run DIR)."
        if holder is None:
            return RunInUseError(self.folder, "another process", f"Wait for it to end. {other}")
        if holder.host == socket.gethostname():
            return RunInUseError(self.folder, str(holder), f"Wait for it to end, or: kill {holder.pid}. {other}")
        return RunInUseError(
            self.folder,
            str(holder),
            f"Wait for it to end, or stop it there. If that machine is gone, remove {self._path}. {other}",
        )


def holder_of(folder: Path) -> Holder | None:
    """Return the living process that trains in a run folder, without taking the lock; None if there is none.

    A process on another machine counts as living as long as it touches its record.
    """
    path = folder / RUNNING_FILE
    holder = _read(path)
    if holder is None:
        return None
    if holder.host == socket.gethostname():
        return holder if holder.is_alive_here else None
    return holder if time.time() - _touched(path) / 1e9 < _SILENCE else None


def claim_new(parent: Path) -> RunLock:
    """Create and claim the next numbered folder of a parent, such as runs/dcgan_digits/3.

    Raises:
        UserError: the folder cannot be written.
    """
    number = max(run_numbers(parent), default=0) + 1
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir(parents=True)
            return RunLock(folder)
        except (FileExistsError, RunInUseError):  # another run started at the same moment
            number += 1
        except OSError as error:
            raise unwritable(folder, error) from error


def claim_chosen(path: Path) -> RunLock:
    """Create and claim a folder that the user chose, or its next numbered sibling if it already holds a run.

    Raises:
        UserError: the folder cannot be written, or is a file.
    """
    path = path if path.name not in ("", "..") else path.resolve()  # `.` has no name to append a number to
    if path.is_file():
        raise UserError(f"The run folder {path} is a file.", "Choose another folder with --run.")
    number, folder = 1, path
    while True:
        with suppress(RunInUseError):
            if not _holds_something(folder):
                lock = claim(folder)
                if not _holds_something(folder):
                    if folder != path:
                        moved = f"{path} is in use or not empty, so this run goes to {folder}."
                        lock.note = f"{lock.note} {moved}".strip()
                    return lock
                lock.release()  # another run has started and ended meanwhile
        number += 1
        folder = path.with_name(f"{path.name}-{number}")


def claim(path: Path) -> RunLock:
    """Create and claim a folder for a single run, whatever it contains.

    Raises:
        RunInUseError: another process is training there.
        UserError: the folder cannot be written, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return RunLock(path)


def _holds_something(folder: Path) -> bool:
    try:
        return any(not entry.name.startswith((LOCK_FILE, RUNNING_FILE, PROBE)) for entry in folder.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return folder.exists()  # a file of that name, or a parent that is not a folder


def _read(path: Path) -> Holder | None:
    """Return the holder named by a record; None if it is missing or unreadable."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        return Holder(str(values["host"]), int(values["pid"]), str(values["began"]), str(values["process_start"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _touched(path: Path) -> int:
    """Return when a file was last touched, by the toucher's clock; 0 if it is gone."""
    try:
        with path.open("rb") as file:  # opening the file makes network disks ask the server
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return 0


def _process_start(pid: int) -> str:
    """Return when a process started, in ticks since the system booted; "" if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
