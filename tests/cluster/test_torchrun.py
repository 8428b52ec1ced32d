"""torchrun on two nodes: network namespaces of this machine with addresses of their own and a link that can fail."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aigc_lightning.core.checkpoint import read_checkpoint

HERE = Path(__file__).parent
AIGC = [sys.executable, "-m", "aigc_lightning"]
MODEL = ["--model=dcgan", "--model.width=8", "--model.latent_size=4", "--data=digits", "--data.size=8"]
NORMS = ["--model.generator_norm=group", "--model.discriminator_norm=group"]
FIT = [*MODEL, *NORMS, "--grids.num=4", "--trainer.accelerator=cpu", "--trust-config"]
HEAD = "10.77.0.1"


def missing():
    if shutil.which("ip") is None:
        return "ip (Debian's iproute2) is not installed"
    if os.getuid() != 0:
        return "network namespaces need root"
    probe = f"aigc-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "delete", probe], check=True)
    return made.stderr.strip()


MISSING = missing()
pytestmark = pytest.mark.slow
needs_namespaces = pytest.mark.skipif(bool(MISSING), reason=f"no network namespaces: {MISSING}")


class Nodes:
    """Two nodes, A and B, that a link joins."""

    def __init__(self, folder):
        self.folder = folder
        self.names = [f"aigc-{letter}-{os.getpid()}" for letter in "ab"]
        self.processes = []

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True)

    def __enter__(self):
        for name in self.names:
            self.ip("netns", "add", name)
        a, b = self.names
        self.ip("link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b)
        for number, name in enumerate(self.names):
            self.ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self.ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *error):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
        for name in self.names:
            self.ip("netns", "delete", name)

    def link(self, state):
        self.ip("-n", self.names[0], "link", "set", "eth0", state)

    def start(self, script):
        """Run a script on both nodes; return the two processes."""
        started = []
        for number, name in enumerate(self.names):
            with open(self.folder / f"{name}.log", "w") as log:
                command = ["ip", "netns", "exec", name, "bash", script, str(number)]
                started.append(
                    subprocess.Popen(
                        command, cwd=self.folder, env=environment(), stdout=log, stderr=log, process_group=0
                    )
                )
        self.processes += started
        return started

    def output(self):
        return "\n".join((self.folder / f"{name}.log").read_text() for name in self.names)


@pytest.fixture
def nodes(tmp_path):
    with Nodes(tmp_path) as nodes:
        yield nodes


def environment():
    return {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def write(folder, *options, nodes=2, processes=1, restarts=0, run="run"):
    numbers = [f"--nodes={nodes}", f"--processes={processes}", f"--max-restarts={restarts}", "--gpus=0", "--cpus=1"]
    head = ["--head", HEAD if nodes > 1 else "localhost"]
    command = [*AIGC, "job", "torchrun", *FIT, *options, *numbers, *head, f"--run={run}", "--out=job.sh"]
    result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def whole_run(folder, *options, devices=1):
    command = [*AIGC, "fit", *FIT, *options, f"--trainer.devices={devices}", "--run=whole"]
    result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder / "whole" / "checkpoints" / "last.ckpt"


LAST = Path("run", "checkpoints", "last.ckpt")


@needs_namespaces
def test_two_nodes_equal_one_process_with_the_same_global_batch(nodes, tmp_path):
    options = ["--trainer.max_steps=12", "--trainer.precision=64-true"]
    write(tmp_path, *options, "--data.batch_size=50")
    assert [process.wait(120) for process in nodes.start("job.sh")] == [0, 0], nodes.output()
    assert sorted(path.name for path in (tmp_path / "run").glob("log*")) == ["log.txt", "log_rank1.txt"]
    one = read_checkpoint(whole_run(tmp_path, *options, "--data.batch_size=100"))["state_dict"]
    two = read_checkpoint(tmp_path / LAST)["state_dict"]
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-9, msg=name)


@needs_namespaces
def test_a_link_that_fails_ends_both_nodes_and_the_run_goes_on_later(nodes, tmp_path, differing):
    options = ["--trainer.max_steps=60", "--data.batch_size=50", "--checkpoints.every_n_steps=10"]
    write(tmp_path, *options, "--timeout=10", "--trainer.callbacks+=jobs_trouble.Slow")
    started = nodes.start("job.sh")
    wait_until(lambda: (tmp_path / LAST).exists(), nodes)
    nodes.link("down")
    began = time.monotonic()
    assert all(process.wait(120) != 0 for process in started), nodes.output()
    assert time.monotonic() - began < 100
    assert 10 <= read_checkpoint(tmp_path / LAST)["global_step"] < 60
    nodes.link("up")
    assert [process.wait(120) for process in nodes.start("job.sh")] == [0, 0], nodes.output()
    assert differing(tmp_path / LAST, whole_run(tmp_path, *options, devices=2)) == []


def wait_until(condition, nodes):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(nodes.output())


RESTARTED = ["--trainer.max_steps=50", "--data.batch_size=50", "--checkpoints.every_n_steps=20"]


def test_a_process_that_is_killed_is_started_again_and_the_run_carries_on(tmp_path, differing):
    kill = "--trainer.callbacks+=jobs_trouble.KillOnce"
    write(tmp_path, *RESTARTED, kill, nodes=1, processes=2, restarts=1)
    result = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "step 20/50" in result.stdout  # where it went on
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]
    assert differing(tmp_path / LAST, whole_run(tmp_path, *RESTARTED, devices=2)) == []


@needs_namespaces
def test_the_processes_of_both_nodes_are_started_again(nodes, tmp_path, differing):
    write(tmp_path, *RESTARTED, "--trainer.callbacks+=jobs_trouble.KillOnce", restarts=1)
    assert [process.wait(150) for process in nodes.start("job.sh")] == [0, 0], nodes.output()
    assert "step 20/50" in nodes.output()
    assert differing(tmp_path / LAST, whole_run(tmp_path, *RESTARTED, devices=2)) == []
