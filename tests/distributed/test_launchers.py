"""Whoever starts the processes: they compute the same, log the same, and stop as one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aigc_lightning.callbacks.metrics_file import read_metrics
from aigc_lightning.core.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
FIT = [
    *("--model=dcgan", "--model.width=4", "--model.latent_size=4"),
    *("--model.generator_norm=group", "--model.discriminator_norm=group"),
    *("--data=digits", "--data.size=8", "--grids.num=4", "--trainer.accelerator=cpu", "--trust-config"),
]
AIGC = [sys.executable, "-m", "aigc_lightning", "fit"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
TORCHRUN += ["aigc_lightning", "fit"]
DDP = ["--trainer.devices=2", "--trainer.strategy=ddp"]
SPAWN = ["--trainer.devices=2", "--trainer.strategy=ddp_spawn"]
RUN = Path("runs") / "dcgan_digits" / "1"


def start(folder, *options, command=AIGC):
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    output = (folder / "output.txt").open("w")
    return subprocess.Popen(
        [*command, *FIT, *options],
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ended(process, folder, timeout=120):
    try:
        return process.wait(timeout), (folder / "output.txt").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def trouble(kind, **arguments):
    inits = [f"--trainer.callbacks.{key}={value}" for key, value in arguments.items()]
    return [f"--trainer.callbacks+=trouble.{kind}", *inits]


EQUAL = ["--trainer.precision=64-true", "--trainer.max_steps=20", "--trainer.log_every_n_steps=7"]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Return the folder of a run in one process, twenty batches of 800, which are ten epochs."""
    folder = tmp_path_factory.mktemp("one")
    code, output = ended(start(folder, *EQUAL, "--data.batch_size=800"), folder)
    assert code == 0, output
    return folder / RUN


@pytest.mark.parametrize(
    ("command", "options"),
    [(AIGC, SPAWN), (AIGC, DDP), (TORCHRUN, ["--trainer.devices=2"])],
    ids=["spawn", "ddp", "torchrun"],
)
def test_two_processes_of_any_launcher_equal_one(command, options, one, tmp_path):
    code, output = ended(start(tmp_path, *EQUAL, "--data.batch_size=400", *options, command=command), tmp_path)
    assert code == 0 and output.count("Starting dcgan_digits") == 1, output
    assert output.count("becomes PlayersStrategy") == any("strategy" in option for option in options)
    first, second = (read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (one, tmp_path / RUN))
    assert first["global_step"] == second["global_step"] == 20
    weights, others = first["state_dict"], second["state_dict"]
    assert max((weights[name] - others[name]).abs().max().item() for name in weights) < 1e-12
    # What is logged is the mean over all processes and not the first one's own.
    logs = [read_metrics(run / "metrics.csv") for run in (one, tmp_path / RUN)]
    for player in ("discriminator", "generator"):
        steps, values = logs[0][f"train/{player}_loss"]
        assert steps == [7, 14, 20] == logs[1][f"train/{player}_loss"][0]
        assert logs[1][f"train/{player}_loss"][1] == pytest.approx(values, rel=1e-8)


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("name", "code", "to_all"),
    [("SIGTERM", 143, False), ("SIGINT", 130, True)],
    ids=["SIGTERM to the parent", "SIGINT to all"],
)
def test_a_signal_under_spawn(name, code, to_all, tmp_path):
    process = start(tmp_path, *SPAWN, "--checkpoints.every_n_steps=10", "--data.batch_size=16")
    until((tmp_path / RUN / "checkpoints" / "last.ckpt").exists)
    (os.killpg if to_all else os.kill)(process.pid, getattr(signal, name))
    found, output = ended(process, tmp_path, 60)
    assert found == code, output
    assert output.count(f"Stopped by {name}") == 1 and "Traceback" not in output
    assert read_checkpoint(tmp_path / RUN / "checkpoints" / "last.ckpt")["global_step"] % 10 == 0


def test_a_kill_of_one_process_under_spawn(tmp_path):
    process = start(tmp_path, *SPAWN, "--checkpoints.every_n_steps=20", "--data.batch_size=16", *trouble("KillOne"))
    code, output = ended(process, tmp_path)
    assert code == 2 and "was killed (SIGKILL)" in output, output
    assert read_checkpoint(tmp_path / RUN / "checkpoints" / "last.ckpt")["global_step"] == 20


def test_a_mistake_of_the_user_in_one_process_under_spawn(tmp_path):
    process = start(tmp_path, *SPAWN, "--data.batch_size=16", *trouble("MistakeOnOne"))
    code, output = ended(process, tmp_path)
    assert code == 2 and "Error: a mistake on the second process" in output, output
    assert "Traceback" not in output


@pytest.mark.parametrize("options", [SPAWN, DDP], ids=["spawn", "ddp"])
def test_processes_that_no_signal_reaches_are_ended(options, tmp_path):
    process = start(tmp_path, *options, "--checkpoints.every_n_steps=29", "--data.batch_size=16", *trouble("HangOne"))
    until((tmp_path / RUN / "checkpoints" / "last.ckpt").exists)
    time.sleep(3)
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    code, output = ended(process, tmp_path, 60)
    assert code == 143 and "answered SIGTERM for 10 s" in output and "--resume" in output, output
    assert "Traceback" not in output and time.monotonic() - begin < 40
    with pytest.raises(ProcessLookupError):  # none of the group is left
        until(lambda: os.killpg(process.pid, 0), 10)


def test_what_would_fork_becomes_what_works(tmp_path, monkeypatch):
    """With several threads a process, at which a forked process would hang in its first large product."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    asked = "ddp_fork_find_unused_parameters_true"
    process = start(tmp_path, "--trainer.devices=2", f"--trainer.strategy={asked}", "--trainer.max_steps=3")
    code, output = ended(process, tmp_path)
    assert code == 0 and f"Strategy {asked} becomes ddp" in output, output
    assert read_checkpoint(tmp_path / RUN / "checkpoints" / "last.ckpt")["global_step"] == 3


def test_a_loader_that_does_not_answer_is_ended_after_a_signal(tmp_path):
    process = start(tmp_path, "--data.num_workers=1", "--data.batch_size=16", *trouble("HangLoader"))
    until(lambda: "stopped a loader" in (tmp_path / "output.txt").read_text())
    os.kill(process.pid, signal.SIGTERM)
    code, output = ended(process, tmp_path, 90)
    assert code == 2 and "have not responded for 10 s" in output and "Traceback" not in output, output
