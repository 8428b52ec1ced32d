"""The signals that ask a run to end, and how long a response may take."""

import signal

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # SIGUSR1: requested from Slurm shortly before a job's time limit
#: Those that exist on this system.
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
#: Seconds within which a process has to answer a signal or end after it, before it is killed.
PATIENCE_S = 10.0


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that end a run with a checkpoint, without SIGHUP under `nohup`."""
    return [number for number in SIGNALS if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN]
