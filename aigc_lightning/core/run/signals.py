"""The signals that ask a run to end, and how long they are waited for."""

import signal

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # SIGUSR1: what Slurm is asked to send before a job's time is over
#: Those that this system has.
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
#: Seconds in which a process has to answer a signal, or to end after it; then it is killed.
PATIENCE_S = 10.0


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that end a run with a checkpoint; SIGHUP is none where `nohup` has this process ignore it."""
    return [number for number in SIGNALS if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN]
