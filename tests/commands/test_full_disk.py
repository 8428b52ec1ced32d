"""A disk that fills up ends a run with one message, and what was complete before is still there."""

import re
import resource
from contextlib import contextmanager

import pytest

from aigc_lightning.core.run.lock import LOCK_FILE


@contextmanager
def small_files(size):
    """Let no file of this process grow beyond so many bytes, as a disk without room would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def hidden(folder):
    """Return what interrupted writing left behind; the file that a run is locked by stays."""
    return [path.name for path in folder.rglob(".*") if path.name != LOCK_FILE]


def test_a_run_that_cannot_save(tiny, aigc, folder, differing):
    fit = ["fit", "--config", tiny, "--run", "run"]
    assert aigc(*fit).code == 0
    last = folder / "run" / "checkpoints" / "last.ckpt"
    before, size = last.read_bytes(), last.stat().st_size
    with small_files(size // 2):
        done = aigc(*fit, "--resume", "--trainer.max_steps", 5)
    assert done.code == 2 and len(done.lines) == 2, done.err
    assert re.search(r"run/checkpoints/\w+\.ckpt: File too large\.", done.err) and "Make room" in done.err
    assert last.read_bytes() == before and hidden(folder) == []
    assert aigc(*fit, "--resume", "--trainer.max_steps", 5).code == 0
    assert aigc("fit", "--config", tiny, "--run", "whole", "--trainer.max_steps", 5).code == 0
    assert differing(last, folder / "whole" / "checkpoints" / "last.ckpt") == []


def test_a_log_that_cannot_grow_ends_no_run(tiny, aigc, folder):
    (folder / "run").mkdir()
    (folder / "run" / "log.txt").write_text("x" * 200_000)
    with small_files(150_000):
        done = aigc("fit", "--config", tiny, "--run", "run", "--resume", "auto")
    assert done.code == 0 and "Traceback" not in done.err and "Logging error" not in done.err
    assert done.err.count("log.txt cannot be written") == 1 and "The run continues" in done.err


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["sample", "RUN", "--seeds", "0-3", "--out", "out"], "out/000000.png"),
        (["export", "RUN", "--out", "out/weights.safetensors"], "out/weights.safetensors"),
        (["interpolate", "RUN", "--seeds", "0,1", "--frames", "2", "--out", "out/walk.gif"], "out/walk.gif"),
        (["data", "preview", "digits", "--out", "out/preview.png"], "out/preview.png"),
        (["data", "stats", "digits", "--out", "out/stats.png"], "out/stats.png"),
    ],
)
def test_commands_name_the_file_and_leave_nothing_half_done(command, file, trained, aigc, folder):
    (folder / "out").mkdir()
    with small_files(300):
        done = aigc(*(trained if part == "RUN" else part for part in command))
    assert done.code == 2 and len(done.lines) == 2, done.err
    assert file in done.err and "Traceback" not in done.err and ".tmp" not in done.err
    assert list((folder / "out").iterdir()) == []
