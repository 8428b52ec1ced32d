"""What is said about the processor."""

import re
from pathlib import Path

import pytest
import torch

from aigc_lightning.core.run import machine

ROOT = Path(__file__).parents[3]
BENCHMARKS = [
    path
    for path in sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("plugins/*/benchmarks/*.py")])
    if "\ndef main(" in path.read_text()
]


def test_the_line_beside_a_table():
    line = machine.machine_line()
    threads = torch.get_num_threads()
    assert re.match(r"\d{4}-\d\d-\d\d, \d+ x ", line)
    assert torch.backends.cpu.get_cpu_capability() in line and f"torch {torch.__version__}" in line
    assert f", {threads} thread{'s' if threads > 1 else ''}" in line


def test_units_for_bf16_and_limits_are_named(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": True, "avx512_bf16": True}, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert "matrix units for bf16 (AMX), ONEDNN_MAX_CPU_ISA=AVX2)" in machine.processor()
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert "nothing for bf16" in machine.processor()


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_benchmark_says_what_it_was_measured_on(path):
    assert "machine_line()" in path.read_text()
