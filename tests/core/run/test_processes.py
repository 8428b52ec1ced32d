"""Processes start clean, tell what went wrong, and are ended."""

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from aigc_lightning.core.engine.distributed import PlayersStrategy
from aigc_lightning.core.run import processes, signals
from aigc_lightning.core.run.processes import OverdueError, clean_context, end, run_together
from aigc_lightning.errors import UserError

ROOT = Path(__file__).parents[3]


def note(rank: int, folder: Path, word: str) -> None:
    (folder / f"{rank}").write_text(f"{word} {os.environ['AIGC_TEST']} {torch.ones(1000, 1000).sum():.0f}")


def fail(rank: int, how: str) -> None:
    if rank == 1 and how == "mistake":
        raise UserError("a mistake", "mend it")
    if rank == 1 and how == "error":
        raise RuntimeError("an error of the program")
    if rank == 1 and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how != "none":
        time.sleep(600)


def test_every_process_has_arguments_and_environment_of_now(tmp_path, monkeypatch):
    """Functions of a test, which cannot be imported by name, included; and threads may have run before."""
    for number in ("1", "2"):  # the server of processes is there the second time
        monkeypatch.setenv("AIGC_TEST", number)
        run_together(note, tmp_path, "word", count=2, limit_s=120)
        assert [(tmp_path / name).read_text() for name in "01"] == [f"word {number} 1000000"] * 2


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("mistake", UserError, "a mistake"),
        ("error", ProcessRaisedException, "an error of the program"),
        ("kill", ProcessExitedException, "SIGKILL"),
    ],
)
def test_what_goes_wrong_in_one_process_ends_all(how, kind, says, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 1.0)
    begin = time.monotonic()
    with pytest.raises(kind, match=says):
        run_together(fail, how, count=2, limit_s=120)
    assert time.monotonic() - begin < 100


def test_processes_that_take_too_long_are_ended():
    with pytest.raises(OverdueError, match="2 processes did not finish within 1 s"):
        run_together(fail, "wait", count=2, limit_s=1)


TARGETS = """
import signal
import time
from aigc_lightning.core.run.processes import obey_parent_alone
from aigc_lightning.core.run.signals import SIGNALS

def ignore(begun):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    begun.set()
    time.sleep(600)

def obey(begun):
    obey_parent_alone()
    begun.set()
    time.sleep(600)
"""


@pytest.fixture
def started(folder, monkeypatch):
    """Start a process with a function of `TARGETS`."""
    (folder / "targets_of_test.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(folder)
    running = []

    def start(name):
        context: Any = clean_context()
        begun = context.Event()
        target = getattr(importlib.import_module("targets_of_test"), name)
        running.append(context.Process(target=target, args=(begun,)))
        running[0].start()
        assert begun.wait(100)
        return running[0]

    yield start
    for process in running:
        process.kill()
    sys.modules.pop("targets_of_test", None)


@pytest.mark.parametrize(("name", "code"), [("obey", 128 + signal.SIGTERM), ("ignore", -signal.SIGKILL)])
def test_a_process_is_asked_to_end_and_killed_if_it_does_not(name, code, started, monkeypatch):
    process = started(name)
    monkeypatch.setattr(processes, "PATIENCE_S", 1.0 if name == "ignore" else 100.0)
    end([process])
    assert process.exitcode == code


def test_signals_for_all_processes_of_a_run_reach_the_first_alone(started):
    """As they do under Slurm: one that is not from its parent changes nothing for a process that loads data."""
    process = started("obey")
    for number in signals.SIGNALS:
        subprocess.run([sys.executable, "-c", f"import os; os.kill({process.pid}, {int(number)})"], check=True)
    process.join(1)
    assert process.is_alive()


def test_a_strategy_that_forks_is_refused():
    with pytest.raises(UserError, match="hang"):
        PlayersStrategy(start_method="fork")._configure_launcher()


def test_nothing_forks():
    forks = re.compile(r"""os\.fork\(|(start_method=|get_context\(|set_start_method\()["']fork["']""")
    folders = ("aigc_lightning", "plugins", "benchmarks", "tests", "docs")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".tmpl", ".md")
    ]
    assert len(files) > 200
    found = [path for path in files if path != Path(__file__) and forks.search(path.read_text(encoding="utf-8"))]
    assert not found
