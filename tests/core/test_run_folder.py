import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from aigc_lightning.core import run_folder
from aigc_lightning.core.run_folder import check_writable, chosen_run, find_checkpoint, new_run, run_numbers
from aigc_lightning.errors import UserError


def test_runs_are_numbered_from_one_and_numbers_are_not_used_again(tmp_path):
    parent = tmp_path / "runs" / "name"
    assert [new_run(parent).name for _ in range(3)] == ["1", "2", "3"]
    (parent / "1").rmdir()
    (parent / "notes").mkdir()
    (parent / "99").write_text("a file")
    assert new_run(parent).name == "4"
    (parent / "12").mkdir()
    assert new_run(parent).name == "13" and run_numbers(parent) == [2, 3, 4, 12, 13]


def test_runs_that_start_at_one_moment_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_run(tmp_path / "runs"), range(40)))
    assert len(set(made)) == 40


def test_a_number_that_a_file_has_is_passed_over(tmp_path):
    (tmp_path / "1").write_text("a file")
    assert new_run(tmp_path).name == "2"


def test_a_chosen_folder_that_holds_something_gets_a_sibling(tmp_path):
    assert chosen_run(tmp_path / "a") == tmp_path / "a"
    assert chosen_run(tmp_path / "a") == tmp_path / "a"  # still empty
    (tmp_path / "a" / "x").write_text("")
    assert chosen_run(tmp_path / "a") == tmp_path / "a-2"
    (tmp_path / "a-2" / "x").write_text("")
    assert chosen_run(tmp_path / "a") == tmp_path / "a-3"
    assert chosen_run(tmp_path / "deep" / "er") == tmp_path / "deep" / "er"


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/it"])
def test_folders_that_cannot_be(path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        chosen_run(tmp_path / path)
    with pytest.raises(UserError, match="file"):
        new_run(tmp_path / path)


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "missing")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folders_without_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    for make in (chosen_run, new_run):
        with pytest.raises(UserError, match="Permission denied"):
            make(tmp_path / "locked" / "run")


def test_checkpoints_of_runs_and_files(tmp_path):
    last = tmp_path / "run" / run_folder.CHECKPOINTS / run_folder.LAST
    last.parent.mkdir(parents=True)
    with pytest.raises(UserError, match="holds no"):
        find_checkpoint(tmp_path / "run")
    last.write_text("")
    assert find_checkpoint(tmp_path / "run") == find_checkpoint(last.parent) == find_checkpoint(str(last)) == last
    with pytest.raises(UserError, match="no run or checkpoint"):
        find_checkpoint(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"s3://x\.org/a\.ckpt is no address"):
        find_checkpoint("s3://x.org/a.ckpt")
