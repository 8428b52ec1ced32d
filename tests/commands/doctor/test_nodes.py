import subprocess
import sys

import pytest

from aigc_lightning.commands.doctor.nodes import Process, described
from aigc_lightning.core.run.launch import Launch

LAUNCH = Launch("srun", 0, (2, 1), ("n1", 20001))


def processes(*, torch="2.15", address="10.0.0.2"):
    first = Process("n1", "10.0.0.1", {"torch": "2.15", "GPUs": "none"})
    return [first, first, Process("n2", address, {"torch": torch, "GPUs": "none"})]


def test_nodes_that_are_alike_are_said_to_be():
    report = described(LAUNCH, processes(), [0.0, 0.0, 0.0012])
    assert report["ranks"] == "n1: 0, 1; n2: 2"
    assert report["address"] == "n1 port 20001"
    assert report["time skew"] == "n1: +0.0 ms; n2: +1.2 ms"
    assert report["differences"].startswith("none")
    assert "<-" not in "".join(report.values())


def test_versions_that_differ_are_named_with_their_nodes():
    report = described(LAUNCH, processes(torch="2.10"), [0.0, 0.0, 0.0])
    assert report["differences"] == "torch: 2.15 on n1, 2.10 on n2"


def test_a_clock_that_is_wrong_is_pointed_at():
    assert "set the clock of n2" in described(LAUNCH, processes(), [0.0, 0.0, -3.0])["time skew"]


def test_an_address_that_others_cannot_reach_is_pointed_at(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert "GLOO_SOCKET_IFNAME" in described(LAUNCH, processes(address="127.0.1.1"), [0.0] * 3)["node addresses"]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert "<-" not in described(LAUNCH, processes(address="127.0.1.1"), [0.0] * 3)["node addresses"]


@pytest.mark.slow
def test_processes_of_torchrun_report_once_together(folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += ["-m", "--", "aigc_lightning", "doctor"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("launcher")]
    assert len(rows) == 1 and "torchrun, 2 processes on 1 node, 2 on each" in rows[0]
    assert "differences     none" in result.stdout
