"""One thread that works off calls of models, one at a time, so that the page itself never waits."""

import secrets
import shutil
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any, Literal

from aigc_lightning.core.io.redaction import redacted_text
from aigc_lightning.core.run.memory import return_memory
from aigc_lightning.errors import UserError
from aigc_lightning.ui.paths import NotThereError

State = Literal["waiting", "working", "done", "failed", "cancelled"]
_MOST_WAITING = 4
_MOST_KEPT = 24  # jobs whose results are kept


class CancelledError(Exception):
    """The user has cancelled the job."""


class BusyError(UserError):
    """Too many jobs are waiting."""

    def __init__(self) -> None:
        super().__init__(f"{_MOST_WAITING} calls are waiting already.", "Wait, or cancel one.")


@dataclass
class Job:
    """A call that is waiting, working or over.

    Args:
        folder: where its results go.
        command: the equal command line.
        work: what it does.
        total: pieces of work, for the progress; 0 if unknown.
    """

    folder: Path
    command: str
    work: "Callable[[Job], Any]"
    total: int = 0
    done: int = 0
    state: State = "waiting"
    error: str = ""
    answer: Any = None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _process: "subprocess.Popen[str] | None" = None

    def check(self, *_: Any) -> None:
        """Raise `CancelledError` if the user has cancelled; takes anything, to be a hook of a module."""
        if self._cancelled.is_set():
            raise CancelledError

    def advance(self, count: int = 1) -> None:
        """Count pieces of work that are done."""
        self.done += count
        self.check()

    def cancel(self) -> None:
        """Ask the job to end: a model ends before its next layer, a process is ended."""
        self._cancelled.set()
        if self._process is not None:
            with suppress(OSError):
                self._process.terminate()

    def run(self, command: Sequence[str], cwd: Path, codes: Sequence[int] = (0,)) -> str:
        """Run a command that can be cancelled; return what it prints.

        Raises:
            UserError: it exits with another code than these.
            CancelledError: the user has cancelled it.
        """
        self.check()
        self._process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        printed, errors = self._process.communicate()
        self.check()
        if self._process.returncode not in codes:
            lines = errors.strip().removeprefix("Error: ").splitlines()[-4:]
            raise UserError("\n".join(lines) or "The command failed.", "")
        return printed

    def public(self) -> dict[str, Any]:
        """Return what the page shows."""
        files = sorted(path.name for path in self.folder.iterdir()) if self.state == "done" else []
        known = {"state": self.state, "done": self.done, "total": self.total, "command": self.command}
        return {**known, "error": self.error, "answer": self.answer, "files": files}


class Worker:
    """Works off jobs in one thread.

    Args:
        folder: private folder for the results.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: Queue[Job] = Queue()
        threading.Thread(target=self._work, name="ui-worker", daemon=True).start()

    def add(self, work: Callable[[Job], Any], command: str, total: int = 0) -> str:
        """Add a job; return its id.

        Raises:
            BusyError: too many are waiting.
        """
        if sum(job.state == "waiting" for job in self._jobs.values()) >= _MOST_WAITING:
            raise BusyError
        identity = secrets.token_hex(8)
        job = Job(self._folder / identity, command, work, total)
        job.folder.mkdir()
        self._jobs[identity] = job
        self._forget()
        self._queue.put(job)
        return identity

    def job(self, identity: str) -> Job:
        """Return a job.

        Raises:
            NotThereError: there is none.
        """
        if identity not in self._jobs:
            raise NotThereError
        return self._jobs[identity]

    def close(self) -> None:
        """Cancel all jobs."""
        for job in self._jobs.values():
            job.cancel()

    def _forget(self) -> None:
        over = [name for name, job in self._jobs.items() if job.state in ("done", "failed", "cancelled")]
        for name in over[: max(0, len(self._jobs) - _MOST_KEPT)]:
            shutil.rmtree(self._jobs.pop(name).folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            try:
                job.check()
                job.state = "working"
                job.answer = job.work(job)
                job.state = "done"
            except CancelledError:
                job.state = "cancelled"
            except UserError as error:
                job.error, job.state = redacted_text(f"{error.what} {error.hint}".strip()), "failed"
            except Exception as error:  # of a model; the server lives on
                job.error, job.state = redacted_text(f"{type(error).__name__}: {error}"), "failed"
            finally:
                return_memory()
