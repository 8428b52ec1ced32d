import pytest

from aigc_lightning.core.run import folder
from aigc_lightning.core.run.folder import check_writable, find_checkpoint
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
