"""Advice when other programs take the processor."""

import os
import time

import pytest
import torch

from aigc_lightning.core.run.shared_processor import SharedProcessor


@pytest.mark.parametrize(
    ("threads", "share", "load", "is_told"),
    [(2, 0.6, 4.0, True), (2, 0.97, 4.0, False), (2, 0.6, 2.1, False), (1, 0.4, 4.0, False)],
)
def test_advice_is_given_once_if_threads_wait(threads, share, load, is_told, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: share * threads * clock[0])
    processor, told = SharedProcessor(), []
    for second in range(0, 90, 10):
        clock[0] = second
        told.append(processor.look())
    advice = [one for one in told if one is not None]
    assert len(advice) == is_told and told[:3] == [None] * 3
    assert not is_told or ("OMP_NUM_THREADS=1" in advice[0] and "load 4.0 on 2" in advice[0])
