"""Advice when threads wait for each other."""

import os
import time

import pytest
import torch

from aigc_lightning.core.run.shared_processor import SharedProcessor


def _advice(processes: int, threads: int, share: float, load: float, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Return what is said in 90 seconds in which each thread runs for that share of the time."""
    clock = [0.0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: share * threads * clock[0])
    processor, told = SharedProcessor(processes), []
    for second in range(0, 90, 10):
        clock[0] = second
        told.append(processor.look())
    said = [one for one in told if one is not None]
    assert len(said) <= 1
    assert told[:3] == [None] * 3
    return said[0] if said else None


@pytest.mark.parametrize(
    ("threads", "share", "load", "is_told"),
    [(2, 0.6, 4.0, True), (2, 0.97, 4.0, False), (2, 0.6, 2.1, False), (1, 0.4, 4.0, False)],
)
def test_advice_is_given_once_if_threads_wait(threads, share, load, is_told, monkeypatch):
    advice = _advice(1, threads, share, load, monkeypatch)
    assert (advice is not None) == is_told
    assert advice is None or ("OMP_NUM_THREADS=1" in advice and "load 4.0 on 2" in advice)


@pytest.mark.parametrize(("share", "load", "is_told"), [(0.6, 2.0, True), (0.85, 2.0, False), (0.6, 4.0, False)])
def test_processes_that_wait_for_each_other_are_told_of_threads(share, load, is_told, monkeypatch):
    advice = _advice(2, 1, share, load, monkeypatch)
    assert (advice is not None) == is_told
    assert advice is None or ("computes in 60 % of the time" in advice and "one process of 2 threads" in advice)


@pytest.mark.parametrize(
    ("processes", "threads", "advice"),
    [
        (2, 2, "2 processes of 2 threads share 2 processors and wait for each other: start with OMP_NUM_THREADS=1"),
        (3, 1, "3 processes share 2 processors and wait for each other: --trainer.devices 2 is faster."),
        (2, 1, None),
    ],
)
def test_too_many_processes_are_said_at_once(processes, threads, advice, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    processor = SharedProcessor(processes)
    found = processor.look()
    assert found == advice if advice is None else found is not None and found.startswith(advice)
    assert processor.look() is None
