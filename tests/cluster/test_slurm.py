"""Jobs on a real Slurm of two nodes, which `slurm.sh` starts on this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE / "slurm.sh"
AIGC = [sys.executable, "-m", "aigc_lightning"]
MODEL = ["--model=dcgan", "--model.width=4", "--model.latent_size=4", "--data=digits", "--data.size=8"]
FIT = [*MODEL, "--data.batch_size=100", "--grids.num=4", "--trainer.max_steps=80", "--trainer.accelerator=cpu"]


def missing():
    found = subprocess.run(["bash", SCRIPT, "check"], capture_output=True, text=True)
    return (found.stdout or found.stderr).strip() if found.returncode else ""


MISSING = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"no Slurm: {MISSING}")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start two nodes; return the environment of those who use them."""
    folder = tmp_path_factory.mktemp("slurm") / "cluster"
    try:
        subprocess.run(["bash", SCRIPT, "start", folder], check=True, timeout=60)
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        }
    finally:
        subprocess.run(["bash", SCRIPT, "stop", folder], check=True, timeout=60)


@pytest.fixture
def call(cluster, tmp_path):
    def call(*command, timeout=120):
        return subprocess.run(
            [str(part) for part in command], cwd=tmp_path, env=cluster, capture_output=True, text=True, timeout=timeout
        )

    return call


def submit(call, name, *options):
    written = call(
        *AIGC, "job", "slurm", *FIT, *options, "--nodes=2", "--gpus=0", "--cpus=1", "--time=20", "--out", name
    )
    assert written.returncode == 0, written.stderr
    submitted = call("sbatch", "--parsable", name)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.strip()


def state(call, job):
    """Return the job's state, and the number of its starts after the first."""
    shown = call("scontrol", "show", "job", "--oneliner", job).stdout
    fields = dict(part.partition("=")[::2] for part in shown.split())
    return fields["JobState"], int(fields["Restarts"])


def wait(call, job, seconds=150):
    for _ in range(seconds * 2):
        found = state(call, job)
        if found[0] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"):
            return found
        time.sleep(0.5)
    raise AssertionError(f"job {job} is still {found[0]}")


def test_a_job_that_is_warned_goes_back_into_the_queue_and_ends_as_if_it_had_not_been(call, tmp_path, differing):
    warned = submit(call, "warned.sh", "--trust-config", "--trainer.callbacks+=jobs_trouble.WarnJob")
    whole = submit(call, "whole.sh")
    assert wait(call, whole) == ("COMPLETED", 0), (tmp_path / f"slurm-{whole}.out").read_text()
    output = tmp_path / f"slurm-{warned}.out"
    assert wait(call, warned) == ("COMPLETED", 1), output.read_text()
    runs = tmp_path / "runs" / "dcgan_digits"
    assert {path.name for path in runs.iterdir()} == {f"slurm-{warned}", f"slurm-{whole}"}
    checkpoints = [runs / f"slurm-{job}" / "checkpoints" / "last.ckpt" for job in (warned, whole)]
    assert differing(*checkpoints) == []
    text = output.read_text()
    assert text.count("Stopped by SIGUSR1") == text.count("goes back into the queue") == 1, text
    # One process writes each file: a log for each, and one of everything else.
    logs = sorted(path.name for path in runs.glob(f"slurm-{warned}/log*"))
    assert logs == ["log.txt", "log_rank1.txt"]
    steps = [line.split(",")[0] for line in (runs / f"slurm-{warned}" / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps), key=int)


def test_a_finished_job_that_is_started_again_ends_well(call, tmp_path):
    job = submit(call, "job.sh", "--run=mine", "--trainer.max_steps=3")
    assert wait(call, job) == ("COMPLETED", 0), (tmp_path / f"slurm-{job}.out").read_text()
    again = call("sbatch", "--parsable", "job.sh").stdout.strip()
    assert wait(call, again) == ("COMPLETED", 0), (tmp_path / f"slurm-{again}.out").read_text()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"mine"}


def test_numbers_that_disagree_are_told_once_with_what_to_write(call):
    result = call("srun", "--nodes=2", "--ntasks-per-node=2", *AIGC, "fit", *FIT)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("srun: ")]
    assert lines == [
        "Error: srun started 4 processes on 2 nodes (2 on each), and the run asks for 1: trainer.num_nodes 1 times "
        "trainer.devices 1.",
        "Write --trainer.num_nodes 2 --trainer.devices 2, or start what it asks for: "
        "srun --nodes 1 --ntasks-per-node 1",
    ]


def test_processes_without_srun_do_not_wait_for_each_other(call, tmp_path):
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\n{' '.join(AIGC)} fit {' '.join(FIT)}\n")
    result = call("sbatch", "--wait", "--nodes=2", "--ntasks-per-node=1", "--output=out.txt", "job.sh")
    assert result.returncode == 2
    assert "Write `srun aigc fit ...`" in (tmp_path / "out.txt").read_text()
