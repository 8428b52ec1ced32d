"""Whether the processes of a run still answer after a signal; an end to those that do not.

A process answers when its main thread runs Python code. One that waits for another in a collective operation does not,
and that is all right as long as the other does: it may be drawing pictures or writing a checkpoint. When none answers,
they wait for each other, or for something that never comes, and no signal reaches any of them.
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
#: The call: harmless to a process that knows nothing of it, and it wakes one that was stopped.
_CALL = getattr(signal, "SIGCONT", None)
_PAUSE_S = 1.0  # between two calls


class RollCall:
    """Calls the processes of a run from the moment that it is to end, and kills them when none has answered for long.

    Args:
        processes: gives their numbers, those that have ended left out.
        on_kill: called with the signal after that.
    """

    def __init__(self, processes: Callable[[], Iterable[int]], on_kill: Callable[[int], object]) -> None:
        self._processes, self._on_kill = processes, on_kill
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(_PAUSE_S)
        self._begun = False
        os.environ[_PORT] = str(self._socket.getsockname()[1])

    def begin(self, number: int) -> None:
        """Begin to call, after the signal of this number; it goes on by itself, and once is enough."""
        if not self._begun and _CALL is not None:
            self._begun = True
            threading.Thread(target=self._call, args=(number,), daemon=True).start()

    def close(self) -> None:
        """Call no more."""
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
                "Go on from the last checkpoint with --resume.",
                error=True,
                flush=True,
            )
            for process in self._processes():
                if process != os.getpid():
                    _sent(process, signal.SIGKILL)
            self._on_kill(number)


def answer_calls() -> None:
    """Answer the calls of the process that has started this one, where there is such a process."""
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
    """Call the processes that this one has started and works with, after a signal.

    This process's own main thread may be what waits, so the signal is seen by another one.

    Args:
        processes: gives the numbers of the others.
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
    """Send a signal; return whether there is such a process."""
    try:
        os.kill(process, number or 0)
    except ProcessLookupError:
        return False
    return True
