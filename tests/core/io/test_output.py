"""Whatever strangers wrote, no control character reaches a screen, a log, a page or a table."""

import csv
import logging
import sys
import warnings

import pytest

from aigc_lightning.core.io.output import SafeFormatter, csv_cell, echo, html, safe_messages, traceback_text

EVIL = "a\x1b[2J\x1b]0;title\x07b\nError: forged\r\x9b31m\u202etxt.exe\u2028\udce9"


def is_shown(text):
    assert text.isprintable(), repr(text)
    return text


def test_lines_on_both_streams(capsys):
    echo(EVIL, "second")
    echo(EVIL, error=True, end="")
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and is_shown(out.splitlines()[0]) and out.endswith("second\n")
    assert r"a\x1b[2J" in is_shown(err) and r"b\nError: forged\r" in err and r"\u202e" in err


def test_html():
    assert html('<b onclick="x">\x1b') == r"&lt;b onclick=&quot;x&quot;&gt;\x1b"
    is_shown(html(EVIL))
    assert "s3cret" not in html("http://s3cret@host/")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_cells_are_no_formulas(text):
    assert csv_cell(text)[0] == "'" and is_shown(csv_cell(text))
    assert csv_cell("val/psnr") == "val/psnr"


def test_a_record_of_a_log_cannot_look_like_two():
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (EVIL,), None)
    lines = SafeFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert len(lines) == 2 and lines[1].startswith("    Error: forged") and all(map(is_shown, lines))


def test_messages_of_python_itself(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert logging.lastResort is not None
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    safe_messages()
    sys.stderr.write(warnings.formatwarning(EVIL, UserWarning, "x.py", 1))
    logging.lastResort.handle(logging.LogRecord("x", logging.WARNING, "x", 1, EVIL, (), None))
    try:
        raise RuntimeError(EVIL + " http://s3cret@host/?key=s3cret")
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        assert "Traceback" in traceback_text(error)
    err = capsys.readouterr().err
    assert err.count("forged") == 3 and "s3cret" not in err and "RuntimeError" in err and "Traceback" in err
    assert not [line for line in err.split("\n") if line.startswith("Error: forged")]
    for line in err.split("\n"):
        assert not line or is_shown(line)


def test_metrics_of_any_name_are_cells_that_compute_nothing(tmp_path):
    from aigc_lightning.callbacks.metrics_file import MetricsFile, read_metrics

    log = MetricsFile(tmp_path)
    for step in (1, 2):
        log.log_metrics({"=1+1": -0.5, EVIL: 1.0, "-2": 3.0}, step)
    head, *rows = csv.reader((tmp_path / "metrics.csv").open(newline=""))
    assert head[1] == "'=1+1" and head[3] == "'-2" and all(map(is_shown, head)) and rows[0][1:] == ["-0.5", "1", "3"]
    assert [len(steps) for steps, _ in read_metrics(tmp_path / "metrics.csv").values()] == [2, 2, 2]
