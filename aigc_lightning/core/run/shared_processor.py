"""Whether a run has more threads than processors, or other programs take the processors from it."""

import os
import time

import torch

_PATIENCE_S = 30.0  # from the first look to the verdict: the load is a mean over a minute
_LEAST_SHARE = 0.75  # of the time of its threads; alone on a machine, a run gets 0.95 and more
_WORTH_SHARE = 0.7  # of the time of processes: 1.4 times one of two, where two threads are mostly 1.4 to 1.6 times one


class SharedProcessor:
    """Says, once, when threads or processes of a run often wait: too many of them, or other programs run.

    Threads meet after each layer, so one that waits for a processor holds up all of them. `dcgan_digits` on two
    processors: 1,253 images/s with one thread and 801 with two beside one busy program; alone, 1,507 and 2,048.
    Processes meet once an update, to average gradients: 2,984 with two. Where they wait for much of the time, threads
    may be faster.

    Args:
        processes: of the run on this machine.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._first: tuple[float, float] | None = None
        self._is_over = False

    def look(self) -> str | None:
        """Return advice if there is reason for it, else None; to be called every now and then."""
        if self._is_over:
            return None
        threads, processors = torch.get_num_threads(), os.cpu_count() or 1
        if self._processes > 1 and self._processes * threads > processors:
            self._is_over = True
            return _too_many(self._processes, threads, processors)
        if self._processes * threads == 1 or not hasattr(os, "getloadavg"):
            self._is_over = True
            return None
        now, used = time.perf_counter(), time.process_time()
        if self._first is None:
            self._first = now, used
        seconds = now - self._first[0]
        if seconds < _PATIENCE_S:
            return None
        self._is_over = True
        load = os.getloadavg()[0]
        share = (used - self._first[1]) / seconds / threads
        is_busy = load >= processors + 1
        if self._processes > 1 and share < _WORTH_SHARE and not is_busy:
            return _rather_threads(self._processes, threads, share)
        if threads == 1 or share > _LEAST_SHARE or not is_busy:
            return None
        return (
            f"Other programs use the processors too (load {load:.1f} on {processors}), and threads that wait for each "
            f"other are slow: if that lasts, start with OMP_NUM_THREADS=1 instead of {threads} threads."
        )


def _too_many(processes: int, threads: int, processors: int) -> str:
    of_threads = "" if threads == 1 else f" of {threads} threads"
    remedy = f"--trainer.devices {processors} is faster"
    if threads > 1:
        best = max(1, processors // processes)
        remedy = f"start with OMP_NUM_THREADS={best}, or without that variable"
    return f"{processes} processes{of_threads} share {processors} processors and wait for each other: {remedy}."


def _rather_threads(processes: int, threads: int, share: float) -> str:
    return (
        f"Each of the {processes} processes computes in {100 * share:.0f} % of the time, and waits for the others or "
        f"for data in the rest: one process of {processes * threads} threads may be faster (--trainer.devices 1)."
    )
