import logging
import sys
import warnings

import pytest

from aigc_lightning.core.run.log import LOG_FILE, run_log
from aigc_lightning.errors import UserError

OURS = logging.getLogger("aigc_lightning.somewhere")


def text(folder, name=LOG_FILE):
    return (folder / name).read_text(encoding="utf-8")


def test_lines_warnings_and_the_end_are_written_with_the_time(tmp_path):
    # The warning is shown as before, too.
    with pytest.warns(UserWarning, match="four"), run_log(tmp_path, ["aigc", "fit", "--hub_token", "abc"]):
        OURS.info("one")
        OURS.warning("two with api_key=xyz")
        logging.getLogger("lightning.pytorch.utilities").info("three é")
        warnings.warn("four", stacklevel=1)
    OURS.warning("afterwards")
    lines = text(tmp_path).splitlines()
    ends = ["--hub_token <hidden> (aigc_lightning", "one", "<hidden>", "three é", "UserWarning: four", "End: finished"]
    assert len(lines) == 6 and all(end in line for end, line in zip(ends, lines, strict=True))
    assert all(line[:4].isdecimal() and (" INFO " in line or " WARNING " in line) for line in lines)


def test_an_error_is_written_with_its_traceback_and_a_second_part_is_added(tmp_path):
    with pytest.raises(KeyError), run_log(tmp_path, ["first"]):
        raise KeyError("missing")
    with pytest.raises(SystemExit), run_log(tmp_path, ["second"]):
        raise SystemExit(143)
    content = text(tmp_path)
    assert content.index("Start: first") < content.index("KeyError: 'missing'") < content.index("Start: second")
    assert "Traceback" in content and content.rstrip().endswith("End: SystemExit 143")


def test_other_processes_write_files_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("aigc_lightning.core.run.log.rank_zero_only.rank", 3, raising=False)
    with run_log(tmp_path, ["x"]):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["log_rank3.txt"]


def test_the_screen_and_the_loggers_are_as_before(tmp_path, monkeypatch):
    names = ("aigc_lightning", "lightning.pytorch", "lightning.fabric")
    state = lambda: [(list(log.handlers), log.level) for log in map(logging.getLogger, names)]  # noqa: E731
    before, shown = state(), warnings.showwarning
    with run_log(tmp_path, ["x"]):
        assert state() != before
    assert state() == before and warnings.showwarning is shown


def test_warnings_of_ours_still_reach_the_screen_of_a_process_without_handlers(tmp_path, aigc_process):
    code = """
import logging
from pathlib import Path
from aigc_lightning.core.run.log import run_log
with run_log(Path("."), ["x"]):
    logging.getLogger("aigc_lightning.x").info("not this")
    logging.getLogger("aigc_lightning.x").warning("but this")
"""
    done = aigc_process(sys.executable, "-c", code)
    assert done.code == 0 and done.err == "but this\n"


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"), run_log(tmp_path / "missing", ["x"]):
        pass
