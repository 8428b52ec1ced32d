import errno
import os
import subprocess
import sys

import pytest

from aigc_lightning.core.files import remove_pieces, replacing


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "made" / "file.txt"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            assert temporary.parent == path.parent  # beside it, since a rename does not cross file systems
            temporary.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as temporary:
        temporary.write_text("half of it")
        raise OSError(errno.ENOSPC, "full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_files_of_dead_processes_are_removed(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, living = int(gone.stdout), os.getppid()
    (tmp_path / "own").mkdir()
    removed = [tmp_path / f".a.csv.{dead}.tmp", tmp_path / "b" / f".c.{dead}.01234567.tmp"]
    removed += [tmp_path / f".d.{os.getpid()}.01234567.tmp", tmp_path / "own" / f".last.ckpt.{living}.01234567.tmp"]
    kept = [
        tmp_path / f".a.csv.{living}.tmp",
        tmp_path / f"a.{dead}.tmp",
        tmp_path / ".mine.tmp",
        tmp_path / "own" / "a",
    ]
    for path in (*removed, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    remove_pieces(tmp_path, own="own")
    assert not any(path.exists() for path in removed) and all(path.exists() for path in kept)


def test_two_writers_of_one_number_do_not_meet(tmp_path):
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


def test_the_file_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("replace"), replace(*names)))
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert events == ["sync", "replace", "sync"]
