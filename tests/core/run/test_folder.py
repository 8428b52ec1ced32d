import pytest

from aigc_lightning.core.run import folder
from aigc_lightning.core.run.folder import check_writable, find_checkpoint, run_folder
from aigc_lightning.errors import UserError


def test_folders_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        check_writable(tmp_path / "missing")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_of_runs_and_files(tmp_path):
    last = tmp_path / "run" / folder.CHECKPOINTS / folder.LAST
    last.parent.mkdir(parents=True)
    with pytest.raises(UserError, match="run has no"):
        find_checkpoint(tmp_path / "run")
    last.write_text("")
    assert find_checkpoint(tmp_path / "run") == find_checkpoint(last.parent) == find_checkpoint(str(last)) == last
    with pytest.raises(UserError, match="no run or checkpoint"):
        find_checkpoint(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"s3://x\.org/a\.ckpt is not an address"):
        find_checkpoint("s3://x.org/a.ckpt")


def test_a_folder_of_numbered_runs_stands_for_the_newest(tmp_path, capsys):
    for name in ("1", "2", "10", "11", "other"):
        (tmp_path / name / folder.CHECKPOINTS).mkdir(parents=True)
    for name in ("1", "2", "10", "other"):  # 11 has not saved yet
        (tmp_path / name / folder.CHECKPOINTS / folder.LAST).write_text("")
    (tmp_path / "12").symlink_to(tmp_path / "1")
    assert find_checkpoint(tmp_path) == tmp_path / "10" / folder.CHECKPOINTS / folder.LAST
    assert capsys.readouterr().err.strip() == f"The newest run in {tmp_path} is {tmp_path / '10'}."
    assert run_folder(tmp_path / "2") == tmp_path / "2" and run_folder(tmp_path / "11") == tmp_path / "11"
