"""Child processes that start clean and never outlive their use.

A process that is forked while its parent runs several threads inherits their locks but not the threads that would
release them, and hangs in the first parallel loop of OpenMP. So nothing here forks from a computing process: processes
come from a fork server that has only imported what they need.
"""

import importlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FunctionType
from typing import Any

from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from aigc_lightning.core.run.signals import PATIENCE_S, SIGNALS
from aigc_lightning.errors import UserError

#: Start method of child processes.
CLEAN = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
#: Imported once by the fork server for all its processes. Imports only: computing would start threads.
_IMPORTED = ["aigc_lightning.core.adversarial", "aigc_lightning.data.base"]


class OverdueError(RuntimeError):
    """Processes did not finish within their time limit."""


def clean_context() -> BaseContext:
    """Return the `multiprocessing` context whose processes start clean."""
    context = multiprocessing.get_context(CLEAN)
    if CLEAN == "forkserver":
        context.set_forkserver_preload(_IMPORTED)
        # The fork server and the resource tracker must survive signals that reach all processes of a run, as under
        # Slurm: without the server nobody could tell whether its processes are alive.
        former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        resource_tracker.ensure_running()
        forkserver.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    return context


def end(processes: Iterable[BaseProcess]) -> None:
    """Terminate processes, and kill those that have not ended within `PATIENCE_S`."""
    left = [process for process in processes if process.is_alive()]
    for process in left:
        process.terminate()
    deadline = time.monotonic() + PATIENCE_S
    for process in left:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in left:
        if process.is_alive():
            process.kill()
            process.join()


class Awaited:
    """Processes that this one is waiting for, see `awaiting`.

    Args:
        processes: all of them are killed when none answers.
    """

    def __init__(self, processes: Sequence[BaseProcess]) -> None:
        self._processes, self._since = processes, time.monotonic()
        self.ended = False

    def end_if_silent(self, since: float) -> None:
        """Kill them if they have been silent for `PATIENCE_S` since a given time and since the request."""
        if not self.ended and time.monotonic() - max(since, self._since) >= PATIENCE_S:
            self.ended = True
            for process in self._processes:
                process.kill()


_awaited: set[Awaited] = set()


@contextmanager
def awaiting(processes: Sequence[BaseProcess]) -> Iterator[Awaited]:
    """Wait for processes to answer; after `end_silent_processes` it is an error if none does."""
    awaited = Awaited(processes)
    _awaited.add(awaited)
    try:
        yield awaited
    finally:
        _awaited.discard(awaited)


def end_silent_processes() -> None:
    """From now on, kill processes that do not answer: this process was asked to end."""
    asked = time.monotonic()

    def watch() -> None:
        while True:
            time.sleep(1)
            for awaited in [*_awaited]:
                awaited.end_if_silent(asked)

    threading.Thread(target=watch, daemon=True).start()


def end_with_parent() -> None:
    """End this process as soon as its parent is gone, for whatever reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel
    threading.Thread(target=lambda: wait([sentinel]) and os._exit(1), daemon=True).start()


def obey_parent_alone(number: int = 0) -> None:
    """Make this process ignore all signals but its parent's, and end with its parent.

    Under Slurm and in a terminal, a signal that asks a run to end reaches all of its processes. The first process needs
    the others until it has saved its state.

    Args:
        number: of this process; passed by loaders.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # before any thread starts that could be interrupted instead of this one
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_obey, args=(parent.pid,), daemon=True).start()
    end_with_parent()


def _obey(parent: int) -> None:
    while (heard := signal.sigwaitinfo(SIGNALS)).si_pid != parent or heard.si_signo != signal.SIGTERM:
        pass
    os._exit(128 + signal.SIGTERM)


def run_together(function: Callable[..., None], *args: Any, count: int, limit_s: float) -> None:
    """Run `function(rank, *args)` in several processes and wait for all of them.

    Args:
        function: a module-level function or a `partial` of one; it and its arguments are pickled. Their modules may be
            files that cannot be imported by name, such as tests.
        *args: passed to the function.
        count: number of processes.
        limit_s: time limit in seconds.

    Raises:
        UserError: raised by one of them.
        ProcessRaisedException: one of them raised another error; the message has its traceback.
        ProcessExitedException: one of them was killed.
        OverdueError: they did not finish in time and were terminated.
    """
    payload = _Payload.of((function, args))
    mistakes = clean_context().SimpleQueue()
    arguments = payload, dict(os.environ), mistakes
    running = start_processes(_work, arguments, nprocs=count, join=False, start_method=CLEAN)
    deadline = time.monotonic() + limit_s
    try:
        while not running.join(max(0.0, deadline - time.monotonic()), grace_period=PATIENCE_S):
            if time.monotonic() >= deadline:
                raise OverdueError(f"{count} processes did not finish within {limit_s:.0f} s and were terminated.")
    except (ProcessRaisedException, ProcessExitedException):
        if mistakes.empty():
            raise
        raise UserError(*mistakes.get()) from None
    finally:
        end(running.processes)


class _Payload:
    """Objects to send to a process, with the files of their modules."""

    def __init__(self, pickled: bytes, files: dict[str, str]) -> None:
        self.pickled, self.files = pickled, files

    @classmethod
    def of(cls, content: Any) -> "_Payload":
        """Pickle the content."""
        buffer = io.BytesIO()
        pickler = _NamingPickler(buffer)
        pickler.dump(content)
        found = {name: getattr(sys.modules.get(name), "__file__", None) for name in pickler.modules - {"__main__"}}
        return cls(buffer.getvalue(), {name: path for name, path in found.items() if path})

    def content(self) -> Any:
        """Unpickle the content; a module that cannot be imported by name is loaded from its file."""
        for name, path in self.files.items():
            try:
                found = getattr(importlib.import_module(name), "__file__", None)
            except ImportError:
                found = None
            if found != path:
                spec = spec_from_file_location(name, path)
                assert spec is not None and spec.loader is not None
                sys.modules[name] = module_from_spec(spec)
                spec.loader.exec_module(sys.modules[name])
        return pickle.loads(self.pickled)


class _NamingPickler(pickle.Pickler):
    """Collects the modules of the classes and functions that it pickles."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer)
        self.modules: set[str] = set()

    def reducer_override(self, thing: Any) -> Any:
        """Record the module and pickle as usual."""
        if isinstance(thing, type | FunctionType):
            self.modules.add(thing.__module__)
        return NotImplemented


def _work(rank: int, payload: _Payload, environment: dict[str, str], mistakes: Any) -> None:
    obey_parent_alone()
    os.environ.clear()
    os.environ.update(environment)  # the server has the environment of its own start
    function, args = payload.content()
    try:
        function(rank, *args)
    except UserError as error:
        mistakes.put((error.what, error.hint))
        raise
