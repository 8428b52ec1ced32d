"""One process trains in a run's folder, whoever starts at the same moment, and a dead one keeps nobody out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aigc_lightning.core.run import lock as run_lock
from aigc_lightning.core.run.folder import run_numbers
from aigc_lightning.core.run.lock import RunInUseError, RunLock, claim, claim_chosen, claim_new
from aigc_lightning.errors import UserError


def closed(lock):
    lock.release()
    return lock.folder


def test_runs_are_numbered_from_one_and_numbers_are_not_used_again(tmp_path):
    parent = tmp_path / "runs" / "name"
    assert [closed(claim_new(parent)).name for _ in range(3)] == ["1", "2", "3"]
    (parent / "1" / ".lock").unlink()
    (parent / "1").rmdir()
    (parent / "notes").mkdir()
    (parent / "99").write_text("a file")
    assert closed(claim_new(parent)).name == "4"
    (parent / "12").mkdir()
    assert closed(claim_new(parent)).name == "13" and run_numbers(parent) == [2, 3, 4, 12, 13]


@pytest.mark.parametrize("make", [claim_new, claim_chosen])
def test_runs_that_start_at_one_moment_get_folders_of_their_own(make, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        locks = list(pool.map(lambda _: make(tmp_path / "runs"), range(24)))
    assert len({lock.folder for lock in locks}) == 24
    for lock in locks:
        lock.release()


def test_a_number_that_a_file_has_is_passed_over(tmp_path):
    (tmp_path / "1").write_text("a file")
    assert closed(claim_new(tmp_path)).name == "2"


def test_a_chosen_folder_that_holds_something_gets_a_sibling(tmp_path):
    assert closed(claim_chosen(tmp_path / "a")) == tmp_path / "a"
    assert closed(claim_chosen(tmp_path / "a")) == tmp_path / "a"  # still empty
    (tmp_path / "a" / "x").write_text("")
    assert closed(claim_chosen(tmp_path / "a")) == tmp_path / "a-2"
    (tmp_path / "a-2" / "x").write_text("")
    assert closed(claim_chosen(tmp_path / "a")) == tmp_path / "a-3"
    assert closed(claim_chosen(tmp_path / "deep" / "er")) == tmp_path / "deep" / "er"


def test_a_sibling_is_not_taken_in_silence(tmp_path):
    first = claim_chosen(tmp_path / "a")
    second = claim_chosen(tmp_path / "a")
    assert first.note == "" and f"this run goes to {tmp_path / 'a-2'}" in second.note
    first.release()
    second.release()


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/it"])
def test_folders_that_cannot_be(path, tmp_path):
    (tmp_path / "file").write_text("")
    for make in (claim_chosen, claim_new, claim):
        with pytest.raises(UserError, match="file"):
            make(tmp_path / path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folders_without_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    for make in (claim_chosen, claim_new):
        with pytest.raises(UserError, match="Permission denied"):
            make(tmp_path / "locked" / "run")


def test_a_folder_in_use_says_by_whom_and_is_free_again_afterwards(tmp_path):
    lock = claim(tmp_path)
    record = json.loads((tmp_path / "running.json").read_text())
    assert record["pid"] == os.getpid() and {"host", "began", "process_start"} <= record.keys()
    with pytest.raises(RunInUseError, match=f"is in use by process {os.getpid()} on ") as error:
        claim(tmp_path)
    assert f"kill {os.getpid()}" in error.value.hint and "--run DIR" in error.value.hint
    lock.release()
    assert not (tmp_path / "running.json").exists()
    again = claim(tmp_path)
    assert not again.note
    again.release()


HOLD = """
import sys, time
from pathlib import Path
from aigc_lightning.core.run.lock import claim
lock = claim(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_the_lock_dies_with_its_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(RunInUseError, match=f"process {process.pid} "):
        claim(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock = claim(tmp_path)
    assert f"Process {process.pid} on " in lock.note and "takes it over" in lock.note
    lock.release()


def record_of_another_machine(folder):
    path = folder / "running.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "began": "yesterday", "process_start": "5"}))
    return path


def test_another_machines_run_is_left_alone_while_it_gives_signs_of_life(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_lock, "_SILENCE", 5.0)
    path = record_of_another_machine(tmp_path)
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunInUseError, match="process 1 on elsewhere") as error:
            claim(tmp_path)
    finally:
        ended.set()
        thread.join()
    assert str(path) in error.value.hint and "watching for 5 s" in capsys.readouterr().out
    assert path.exists()


def test_another_machines_run_that_is_silent_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_SILENCE", 0.3)
    record_of_another_machine(tmp_path)
    lock = claim(tmp_path)
    assert "Process 1 on elsewhere" in lock.note
    lock.release()


def test_a_run_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_BEAT", 0.02)
    lock = claim(tmp_path)
    os.utime(tmp_path / "running.json", (1, 1))
    for _ in range(200):
        if (tmp_path / "running.json").stat().st_mtime > 1:
            break
        time.sleep(0.02)
    assert (tmp_path / "running.json").stat().st_mtime > 1
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}', "[" * 10_000])
def test_a_record_that_cannot_be_read_keeps_nobody_out(text, tmp_path):
    (tmp_path / "running.json").write_text(text)
    closed(claim(tmp_path))


def without_locks(monkeypatch):
    def refuse(self, **options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)


def test_on_a_disk_without_locks_the_record_decides(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    lock = RunLock(tmp_path)
    with pytest.raises(RunInUseError):
        claim(tmp_path)
    record = json.loads((tmp_path / "running.json").read_text())
    lock.release()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for changes in ({"pid": int(gone.stdout)}, {"process_start": "another process of this number"}):
        (tmp_path / "running.json").write_text(json.dumps({**record, **changes}))
        assert closed(claim(tmp_path)) == tmp_path
