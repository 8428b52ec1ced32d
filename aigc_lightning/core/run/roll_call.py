"""Checks whether the processes of a run still answer after a signal, and kills them if none does.

A process answers if its main thread runs Python code. One that waits for another in a collective operation does not,
which is fine as long as the other does: it may be drawing pictures or writing a checkpoint. If none answers, they are
deadlocked or wait for something that never comes, and no signal reaches any of them.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType

from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.signals import PATIENCE_S, SIGNALS

_PORT = "AIGC_ROLL_CALL"  # where the processes of a run answer
#: The signal to answer: harmless to a process that does not handle it, and it wakes a stopped one.
_CALL = getattr(signal, "SIGCONT", None)
_PAUSE_S = 1.0  # between two calls


class RollCall:
    """Calls the processes of a run once it is to end, and kills them if none answers for long.

    Args:
        processes: returns the ids of those still running.
        on_kill: called with the signal after they were killed.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], on_kill: Callable[[int], object]) -> None:
        self._processes, self._on_kill = processes, on_kill
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_PAUSE_S)
        self._begun = False
        os.environ[_PORT] = str(self._socket.getsockname()[1])

    def begin(self, number: int) -> None:
        """Start calling after a signal; repeats by itself, so that one call is enough."""
        if not self._begun and _CALL is not None:
            self._begun = True
            threading.Thread(target=self._call, args=(number,), daemon=True).start()

    def close(self) -> None:
        """Stop calling."""
        os.environ.pop(_PORT, None)
        self._socket.close()

    def _call(self, number: int) -> None:
        heard = time.monotonic()
        with suppress(OSError):  # closed meanwhile: the run has ended
            while time.monotonic() - heard < PATIENCE_S:
                called = [process for process in self._processes() if _sent(process, _CALL)]
                if not called:
                    return
                with suppress(TimeoutError):
                    self._socket.recv(1)
                    heard = time.monotonic()
                    time.sleep(_PAUSE_S)
            name = signal.Signals(number).name
            echo(
                "",
                f"No process of the run has answered {name} for {PATIENCE_S:.0f} s; they were killed.",
                "Continue from the last checkpoint with --resume.",
                error=True,
                flush=True,
            )
            for process in self._processes():
                if process != os.getpid():
                    _sent(process, signal.SIGKILL)
            self._on_kill(number)


def answer_calls() -> None:
    """Answer the calls of the process that started this one, if any."""
    port = os.environ.get(_PORT)
    if port is None or _CALL is None or threading.current_thread() is not threading.main_thread():
        return

    def answer(number: int, frame: FrameType | None) -> None:
        with suppress(OSError), closing(socket.socket(type=socket.SOCK_DGRAM)) as sender:
            sender.sendto(b"x", ("127.0.0.1", int(port)))

    signal.signal(_CALL, answer)
    signal.siginterrupt(_CALL, False)


@contextmanager
def called_by_this(processes: Callable[[], Iterable[int]]) -> Iterator[None]:
    """After a signal, call the processes that this one has started and works with.

    This process's own main thread may be blocked, so another thread watches for the signal.

    Args:
        processes: returns the ids of the others.
    """
    if _CALL is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    roll_call = RollCall(lambda: [os.getpid(), *processes()], lambda number: os._exit(128 + number))
    answer_calls()
    seen, noted = socket.socketpair()
    noted.setblocking(False)
    former = signal.set_wakeup_fd(noted.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with closing(seen):
            while numbers := seen.recv(64):
                for number in numbers:
                    if number in SIGNALS:
                        roll_call.begin(number)

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        noted.close()  # ends the listener
        roll_call.close()


def _sent(process: int, number: int | None) -> bool:
    """Send a signal; return whether the process exists."""
    try:
        os.kill(process, number or 0)
    except ProcessLookupError:
        return False
    return True
