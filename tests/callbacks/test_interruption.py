import os
import signal
import time

import lightning.pytorch as pl
import pytest

from aigc_lightning.callbacks import interruption
from aigc_lightning.callbacks.checkpoints import Checkpoints
from aigc_lightning.callbacks.interruption import Interruption

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGHUP, 143)]


class Send(pl.Callback):
    """Sends signals to this process at the third batch, some seconds apart."""

    def __init__(self, *signals: int, pause: float = 0.0) -> None:
        self.signals, self.pause = signals, pause

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 2:
            for number in self.signals:
                os.kill(os.getpid(), number)
                time.sleep(self.pause)


def stopped(fit, tmp_path, *callbacks):
    """Return the exit code of a run and the step of its checkpoint, None without one."""
    with pytest.raises(SystemExit) as end:
        fit(*callbacks, Checkpoints(monitor=None), Interruption())
    return end.value.code, (tmp_path / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_the_run_at_the_end_of_the_batch(number, code, fit, tmp_path, capsys):
    assert stopped(fit, tmp_path, Send(number)) == (code, True)
    said = capsys.readouterr().out
    assert f"Stopped by {signal.Signals(number).name} at step 3 of 20: saved in {tmp_path}.\n" in said
    assert f"Go on with: aigc fit --resume {tmp_path}\n" in said


def test_a_run_under_nohup_goes_on(fit, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fit(Send(signal.SIGHUP), Interruption(), max_steps=5)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_is_left_before_anything_is_printed():
    reader, writer = os.openpty()
    os.close(reader)
    saved = os.dup(1)
    try:
        os.dup2(writer, 1)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(1, b"x")
        interruption._leave_dead_terminal()
        os.write(1, b"x")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(writer)


def test_a_second_ctrl_c_leaves_at_once(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "_ECHO", 0.01)
    assert stopped(fit, tmp_path, Send(signal.SIGINT, signal.SIGINT, pause=0.05)) == (130, False)


def test_a_signal_that_comes_by_two_ways_counts_once(fit, tmp_path):
    assert stopped(fit, tmp_path, Send(signal.SIGINT, signal.SIGINT)) == (130, True)


def test_former_handlers_come_back(fit, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stopped(fit, tmp_path, Send(signal.SIGTERM))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
