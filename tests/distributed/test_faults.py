"""Signals, kills and errors in one process of several: all end soon, and nothing that was saved is lost."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aigc_lightning.callbacks.checkpoints import AtomicCheckpointIO
from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.core.io.atomic import remove_pieces

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
HANGING = 240  # seconds; a process that is left alone would wait for half an hour
TINY = ["--model=dcgan", "--model.width=4", "--model.latent_size=4", "--data=digits", "--data.size=8"]
FIT = [*TINY, "--data.batch_size=16", "--grids.num=4", "--trust-config", "--trainer.accelerator=cpu"]
AIGC = [sys.executable, "-m", "aigc_lightning", "fit", "--run=run"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
TORCHRUN += ["aigc_lightning", "fit"]


def run(folder, *options, command=AIGC, timeout=250):
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    began = time.monotonic()
    result = subprocess.run(
        [*command, *FIT, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )
    return result, time.monotonic() - began


def trouble(kind, **arguments):
    inits = [f"--trainer.callbacks.{key}={value}" for key, value in arguments.items()]
    return [f"--trainer.callbacks+=trouble.{kind}", *inits]


def step_of(folder, run="run"):
    return read_checkpoint(folder / run / "checkpoints" / "last.ckpt")["global_step"]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_a_signal_ends_one_process_with_a_checkpoint(name, code, tmp_path):
    result, _ = run(tmp_path, *trouble("SignalOne", name=name, rank=0))
    assert result.returncode == code, result.stderr
    assert "Go on with: aigc fit --resume run" in result.stdout
    assert step_of(tmp_path) == 30


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_process_ends_all_at_the_same_step(rank, tmp_path):
    result, _ = run(tmp_path, "--trainer.devices=2", *trouble("SignalOne", name="SIGTERM", rank=rank))
    assert result.returncode == 143, result.stderr
    assert step_of(tmp_path) in (30, 40)  # the others are asked at every tenth batch


# torchrun takes --run for an abbreviation of an option of its own, so the run has its usual folder.
def test_a_signal_under_torchrun(tmp_path):
    options = ["--trainer.devices=2", *trouble("SignalOne", name="SIGTERM", rank=1)]
    result, _ = run(tmp_path, *options, command=TORCHRUN)
    assert result.returncode != 0
    assert result.stdout.count("Stopped by SIGTERM") == 1
    assert step_of(tmp_path, "runs/dcgan_digits/1") in (30, 40)


def test_a_kill_of_one_process_ends_the_others(tmp_path):
    options = ["--trainer.devices=2", "--checkpoints.every_n_steps=20", *trouble("KillOne")]
    result, seconds = run(tmp_path, *options)
    assert result.returncode != 0
    assert seconds < HANGING
    assert step_of(tmp_path) == 20


def test_an_error_in_one_process_is_what_the_user_sees(tmp_path):
    result, seconds = run(tmp_path, "--trainer.devices=2", *trouble("RaiseOnOne"))
    assert result.returncode != 0
    assert seconds < HANGING
    assert "trouble on the second process" in result.stderr


@pytest.mark.parametrize("devices", [1, 2])
def test_a_kill_of_a_loader_process_is_said_and_loses_nothing(devices, tmp_path):
    options = [f"--trainer.devices={devices}", "--data.num_workers=2", "--checkpoints.every_n_steps=2"]
    result, seconds = run(tmp_path, *options, *trouble("KillLoader"))
    assert result.returncode == 2, result.stderr
    assert seconds < HANGING
    assert "A data loader process has died (exit code -9)" in result.stderr
    assert devices > 1 or "Traceback" not in result.stderr  # the other one says that it was left alone
    assert step_of(tmp_path) >= 4


SAVE_LARGE = """
import sys, torch
from aigc_lightning.callbacks.checkpoints import AtomicCheckpointIO
print("saving", flush=True)
while True:
    AtomicCheckpointIO().save_checkpoint({"weights": torch.ones(10_000_000)}, sys.argv[1])
"""


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    path, elsewhere, pieces = tmp_path / "checkpoints" / "last.ckpt", tmp_path / "tmp", []
    elsewhere.mkdir()
    AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(10)}, path)
    for delay in (0.05, 0.1, 0.2, 0.3):
        environment = {**os.environ, "TMPDIR": str(elsewhere)}
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_LARGE, str(path)], stdout=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait()
        assert torch.load(path, weights_only=True).keys() == {"weights"}
        assert list(elsewhere.iterdir()) == []  # a piece lies beside its target
        pieces += [piece for piece in path.parent.iterdir() if piece != path]
        remove_pieces(tmp_path, own="checkpoints")
        assert list(path.parent.iterdir()) == [path]
    assert pieces


def test_a_killed_run_is_taken_over_and_leaves_nothing_behind(tmp_path):
    result, _ = run(tmp_path, "--checkpoints.every_n_steps=10", *trouble("KillOne", rank=0))
    assert result.returncode == -9 and (tmp_path / "run" / "running.json").exists()
    piece = tmp_path / "run" / "checkpoints" / ".last.ckpt.4194999.0a1b2c3d.tmp"
    piece.write_bytes(b"half")
    again, _ = run(tmp_path, "--resume=run", "--trainer.max_steps=40")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("ended without releasing run; this process takes it over.") == 1
    assert step_of(tmp_path) == 40 and not piece.exists() and not (tmp_path / "run" / "running.json").exists()


def start(folder, *options):
    command = [*AIGC[:-1], *FIT, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_starts_with_one_folder_get_a_folder_each(tmp_path):
    processes = [start(tmp_path, "--run=run", "--trainer.max_steps=5") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert step_of(tmp_path) == step_of(tmp_path, "run-2") == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


def test_of_two_resumes_one_runs_and_the_other_says_who(tmp_path):
    run(tmp_path, "--trainer.max_steps=5")
    processes = [start(tmp_path, "--resume=run", "--trainer.max_steps=400") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], said
    (refused,) = [text for text, process in zip(said, processes, strict=True) if process.returncode]
    winner = next(process.pid for process in processes if process.returncode == 0)
    assert f"The run run is in use by process {winner} on " in refused and "Traceback" not in refused
    assert step_of(tmp_path) == 400


@pytest.mark.parametrize("size", ["8k", "100k"])
def test_too_little_shared_memory_is_said(size, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not allowed here")
    mount = f'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"'
    result, _ = run(tmp_path, "--data.num_workers=2", command=["unshare", "-rm", "bash", "-c", mount, "bash", *AIGC])
    assert result.returncode == 2, result.stderr
    assert "shared memory of this machine (/dev/shm, 0 MB) is full" in result.stderr
    assert "--data.num_workers 0" in result.stderr and "combined_loader" not in result.stderr


ON_A_FULL_DISK = """
set -e
mount -t tmpfs -o size=4m none "$1"
exec "$2" -c '
import sys, torch
from aigc_lightning.callbacks.checkpoints import AtomicCheckpointIO
path = sys.argv[1] + "/last.ckpt"
AtomicCheckpointIO().save_checkpoint({"step": 1, "weights": torch.zeros(500_000)}, path)
try:
    AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.zeros(5_000_000)}, path)
except OSError as error:
    print("failed:", error.strerror, error.filename == path)
print("step", torch.load(path, weights_only=True)["step"])
' "$1"
"""


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not allowed here")
    command = ["unshare", "-rm", "bash", "-c", ON_A_FULL_DISK, "bash", str(tmp_path), sys.executable]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "failed: No space left on device True" in result.stdout, result.stderr
    assert result.stdout.endswith("step 1\n")
