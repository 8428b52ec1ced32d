import math
from pathlib import Path

import pytest

from aigc_lightning.callbacks.metrics_file import MetricsFile, read_metrics


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def test_values_of_a_step_share_a_row_that_is_in_the_file_at_once(tmp_path: Path, path: Path):
    log = MetricsFile(tmp_path)
    log.log_metrics({"a": 1.0, "b": 2.0}, 10)
    log.log_metrics({"a": 1.5}, 20)
    log.log_metrics({"b": 0.25}, 20)
    assert path.read_text() == "step,a,b\n10,1,2\n20,1.5,0.25\n"


def test_a_shorter_row_leaves_nothing_of_the_longer_one_behind(tmp_path: Path, path: Path):
    log = MetricsFile(tmp_path)
    log.log_metrics({"a": 0.123456789}, 1)
    log.log_metrics({"a": 2}, 1)
    assert path.read_text() == "step,a\n1,2\n"


def test_columns_may_appear_later(tmp_path: Path, path: Path):
    log = MetricsFile(tmp_path)
    log.log_metrics({"a": 1}, 1)
    log.log_metrics({"b, quoted": 2}, 2)
    log.log_metrics({"a": 3}, 3)
    assert path.read_text() == 'step,a,"b, quoted"\n1,1,\n2,,2\n3,3,\n'
    assert read_metrics(path) == {"a": ([1, 3], [1, 3]), "b, quoted": ([2], [2])}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_an_earlier_row_can_be_completed(tmp_path: Path, path: Path):
    log = MetricsFile(tmp_path)
    for step in (1, 2, 3):
        log.log_metrics({"a": step}, step)
    log.log_metrics({"b": 9}, 2)
    log.log_metrics({"a": 4}, 4)
    assert path.read_text() == "step,a,b\n1,1,\n2,2,9\n3,3,\n4,4,\n"


def test_a_resumed_run_drops_what_lies_beyond_and_continues(tmp_path: Path, path: Path):
    first = MetricsFile(tmp_path)
    for step in (10, 20, 30):
        first.log_metrics({"a": step}, step)
    second = MetricsFile(tmp_path)
    second.rewind(20)
    second.log_metrics({"b": 5}, 20)
    second.log_metrics({"a": 6}, 30)
    assert path.read_text() == "step,a,b\n10,10,\n20,20,5\n30,6,\n"


@pytest.mark.parametrize("tail", ["3", "3,0.1", "3,0.1,7", '3,"', "\0\0\0"])
def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path: Path, path: Path, tail: str):
    path.write_text("step,a,b\n1,1,\n2,2,\n" + tail)
    assert read_metrics(path)["a"] == ([1, 2], [1, 2])
    MetricsFile(tmp_path).log_metrics({"a": 3}, 3)
    assert path.read_text() == "step,a,b\n1,1,\n2,2,\n3,3,\n"


def test_values_survive_to_float32_and_not_a_number_is_kept(tmp_path: Path, path: Path):
    MetricsFile(tmp_path).log_metrics({"third": 1 / 3, "nan": math.nan, "inf": -math.inf}, 0)
    series = read_metrics(path)
    assert series["third"][1][0] == pytest.approx(1 / 3, abs=1e-9)
    assert math.isnan(series["nan"][1][0]) and series["inf"][1] == [-math.inf]


def test_a_missing_file_has_no_metrics(path: Path):
    assert read_metrics(path) == {}
