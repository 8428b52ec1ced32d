"""The kit works where torch has as many threads as it likes, as it has outside of this folder."""

import sys

import pytest

TWO_PROCESSES = """
from pathlib import Path
import torch
from aigc_lightning.testing.cases import ModelCase
from aigc_lightning.testing.training_checks import gives_the_same_on_two_processes

if __name__ == "__main__":
    assert torch.get_num_threads() > 1
    torch.ones(2000, 2000) @ torch.ones(2000, 2000)  # from now on there are others, which a fork would not have
    settings = ("model.width=8", "data.size=16", "data.batch_size=8")
    gives_the_same_on_two_processes(ModelCase("model", "dcgan", Path("runs"), settings))
    print("equal")
"""


@pytest.mark.slow
def test_two_processes_after_threads_have_run(aigc_process, folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    (folder / "two_processes.py").write_text(TWO_PROCESSES)
    done = aigc_process(sys.executable, "two_processes.py", timeout=280)
    assert done.code == 0 and "equal" in done.out, done.err
