import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aigc_lightning.core.io.atomic import remove_pieces, replacing


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
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"), replacing(path) as temporary:
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


def test_a_link_and_a_stale_file_of_the_temporary_name_are_in_nobodys_way(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / f".a.{os.getpid()}.tmp").symlink_to(tmp_path / "precious")
    for text in ("first", "second"):
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text(text)
        temporary.write_text("stale")
    assert (tmp_path / "a").read_text() == "second" and (tmp_path / "precious").read_text() == "mine"


@contextmanager
def small_files(size):
    """Let no file of this process grow beyond so many bytes, as a disk without room would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("x" * 100_000),
    "torch": lambda path: torch.save({"a": torch.zeros(100_000)}, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, path),
    "numpy": lambda path: np.save(path.open("wb"), NOISE),
    **{
        kind: partial(lambda kind, path: Image.fromarray(NOISE).save(path, format=kind, quality=100), kind)
        for kind in ("PNG", "JPEG", "GIF")
    },
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_by_the_name_that_a_user_knows(writer, tmp_path):
    path = tmp_path / "file.x"
    path.write_text("old")
    with small_files(10_000), pytest.raises(OSError) as error, replacing(path) as temporary:
        WRITERS[writer](temporary)
    assert error.value.filename == str(path) and error.value.errno in (errno.EFBIG, errno.EIO) and error.value.strerror
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_that_is_not_about_the_file_stays_as_it_is(tmp_path):
    for raised in (ConnectionRefusedError(111, "Connection refused"), ValueError("wrong"), OSError(2, "gone", "other")):
        with pytest.raises(type(raised)) as error, replacing(tmp_path / "a"):
            raise raised
        assert error.value is raised


def test_a_folder_that_cannot_be_written_is_named_with_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), replacing(tmp_path / "file" / "a"):
        pass
    with pytest.raises(OSError, match="xxx") as error, replacing(tmp_path / ("x" * 300)):
        pass
    assert error.value.filename == str(tmp_path / ("x" * 300))
