import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aigc_lightning.callbacks import loggers
from aigc_lightning.callbacks.loggers import SafeLogger, make_loggers, warn_instead
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.callbacks.metrics_file import MetricsFile, read_metrics
from aigc_lightning.errors import UserError


class Broken(MetricsFile):
    calls = 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.calls += 1
        raise OSError("disk full\nand more")


def test_a_logger_that_raises_is_switched_off_with_one_line_and_the_run_goes_on(fit, tmp_path: Path, caplog):
    broken = Broken(tmp_path / "broken")
    with caplog.at_level(logging.WARNING):
        trainer = fit(LossLog(), logger=[SafeLogger(MetricsFile(tmp_path)), SafeLogger(broken)])
    assert trainer.global_step == 20 and broken.calls == 1
    assert read_metrics(tmp_path / "metrics.csv")["train/generator_loss"][0] == [5, 10, 15, 20]
    messages = [record.getMessage() for record in caplog.records if "Broken" in record.getMessage()]
    assert messages == ["Broken is disabled, the run continues: OSError: disk full"]


class FailsLater(MetricsFile):
    """Works twice; then it raises, or never comes back."""

    def __init__(self, folder: Path, blocks: bool) -> None:
        super().__init__(folder)
        self.calls, self.blocks = 0, blocks

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.calls += 1
        if self.calls < 3:
            super().log_metrics(metrics, step)
        elif self.blocks:
            threading.Event().wait()
        else:
            raise ConnectionError("api.wandb.ai is gone")


@pytest.mark.parametrize("blocks", [False, True], ids=["raises", "blocks"])
def test_a_logger_that_fails_in_mid_run_loses_nothing_of_the_others(blocks, fit, tmp_path: Path, caplog):
    gone = FailsLater(tmp_path / "gone", blocks)
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        trainer = fit(LossLog(), logger=[SafeLogger(MetricsFile(tmp_path)), SafeLogger(gone, patience=0.3)])
    assert trainer.global_step == 20 and gone.calls == 3
    assert time.monotonic() - start < 20  # once the patience, and no more
    assert read_metrics(tmp_path / "metrics.csv")["train/generator_loss"][0] == [5, 10, 15, 20]
    assert read_metrics(gone.path)["train/generator_loss"][0] == [5, 10]
    reason = "TimeoutError: no answer for 0.3 seconds" if blocks else "ConnectionError: api.wandb.ai is gone"
    messages = [message for message in caplog.messages if "is disabled" in message]
    assert messages == [f"FailsLater is disabled, the run continues: {reason}"]


def test_only_loggers_of_other_packages_may_run_out_of_patience(tmp_path: Path):
    file, board = make_loggers(["tensorboard"], tmp_path)
    assert isinstance(file, SafeLogger) and isinstance(board, SafeLogger)
    assert file.patience is None and board.patience is not None and board.patience > 0


def test_an_interrupt_passes_through(tmp_path: Path):
    class Interrupted(MetricsFile):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise KeyboardInterrupt

    for patience in (None, 9.0):
        with pytest.raises(KeyboardInterrupt):
            SafeLogger(Interrupted(tmp_path), patience).log_metrics({}, 0)


def test_warn_instead_says_what_was_not_done(caplog):
    with warn_instead("The plot was not drawn"):
        raise ValueError("no room")
    assert caplog.messages == ["The plot was not drawn: ValueError: no room"]


def test_metrics_are_always_written(tmp_path: Path):
    (only,) = make_loggers([], tmp_path)
    assert isinstance(only, SafeLogger) and isinstance(only.inner, MetricsFile)
    assert only.save_dir == str(tmp_path)


def test_an_unknown_name_is_answered_with_a_near_one(tmp_path: Path):
    with pytest.raises(UserError, match=r"no logger 'wanbd'\.\nDid you mean wandb\?"):
        make_loggers(["wanbd"], tmp_path)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "aigc-lightning\[tensorboard\]"'):
        make_loggers(["tensorboard"], tmp_path)


def test_processes_other_than_the_first_ask_nobody(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("aigc_lightning.callbacks.loggers.rank_zero_only.rank", 1, raising=False)
    assert len(make_loggers(["wandb", "tensorboard"], tmp_path)) == 1
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_a_server_that_takes_connections_answers(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert loggers._answers(url)
    assert not loggers._answers(url)


def test_waiting_for_a_server_has_a_limit_even_while_its_name_is_looked_up(monkeypatch):
    def slow_name(*args: Any) -> Any:
        time.sleep(10)
        raise OSError

    monkeypatch.setattr(loggers, "_PATIENCE", 0.1)
    monkeypatch.setattr(socket, "create_connection", slow_name)
    start = time.monotonic()
    assert not loggers._answers("https://wandb.invalid")
    assert time.monotonic() - start < 5


def test_the_proxy_is_asked_where_there_is_one(monkeypatch):
    asked: list[Any] = []

    def connect(address: Any, limit: float) -> Any:
        asked.append(address)
        raise OSError

    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "proxy.example:3128"})
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: False)
    monkeypatch.setattr(socket, "create_connection", connect)
    loggers._answers("https://api.wandb.ai")
    assert asked == [("proxy.example", 3128)]


@pytest.mark.slow
def test_wandb_is_not_imported_unless_asked_for():
    code = "import sys, aigc_lightning.callbacks.loggers; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


RUN = """
import sys
from pathlib import Path
from aigc_lightning.callbacks.loggers import make_loggers
folder = Path(sys.argv[1])
logger = make_loggers(["wandb", "tensorboard"], folder)[-1]
logger.experiment
logger.log_metrics({"train/loss": 1.0}, 5)
from PIL import Image
Image.new("L", (8, 8)).save(folder / "grid.png")
for each in (logger, make_loggers(["tensorboard"], folder)[-1]):
    each.log_image("grids/samples", folder / "grid.png", 5, "0\\ta red circle\\n")
    each.finalize("success")
assert logger.working and logger.version == (folder / "wandb_id.txt").read_text().strip()
"""


@pytest.mark.slow
def test_wandb_without_a_key_or_a_server_logs_to_files_in_the_run_and_says_so_in_one_line(tmp_path: Path):
    home, run = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes connections and never says a word
        variables["WANDB_BASE_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        ids = [logged_offline(run, variables, "no API key on this machine")]
    variables["WANDB_API_KEY"] = "a" * 40
    ids.append(logged_offline(run, variables, "cannot be reached"))
    assert ids[0] == ids[1]  # a second start of the same run keeps W&B's number
    assert list((run / "wandb").glob(f"offline-run-*-{ids[0]}/files/media/images/grids/*.png"))
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert not any(b"aaaaaaaa" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def logged_offline(run: Path, variables: dict[str, str], reason: str) -> str:
    """Log to W&B in a process of its own, check what it says, and return the run's number."""
    command = [sys.executable, "-c", RUN, str(run)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("wandb: ") and reason in line and f"wandb sync {run}/wandb/offline-run-*" in line
    assert "wandb:" not in done.stderr
    return (run / "wandb_id.txt").read_text().strip()
