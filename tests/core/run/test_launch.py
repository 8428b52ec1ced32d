import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from aigc_lightning.core.run.environment import restored_environment
from aigc_lightning.core.run.launch import agreed, first_node, free_port, launched, tasks_per_node, unlaunched_tasks

STEP = {
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NAME": "train",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_NTASKS": "8",  # of the job, of which the step has a part
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "6",
    "LOCAL_WORLD_SIZE": "3",
    "GROUP_WORLD_SIZE": "2",
    "RANK": "4",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def environment(monkeypatch):
    for name in {*STEP, *TORCHRUN}:
        monkeypatch.delenv(name, raising=False)

    def put(*mappings, **more):
        for name, value in {key: value for mapping in (*mappings, more) for key, value in mapping.items()}.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("text", "numbers"), [("1", (1,)), ("4(x2)", (4, 4)), ("2(x2),1", (2, 2, 1)), ("3,1(x2)", (3, 1, 1))]
)
def test_slurms_numbers_are_read(text, numbers):
    assert tasks_per_node(text) == numbers


@pytest.mark.parametrize(
    ("text", "name"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[07-08,10]", "gpu07"), ("a[3],b7", "a3"), ("n[1-2]-ib,n9-ib", "n1-ib")],
)
def test_slurms_names_are_read(text, name):
    assert first_node(text) == name


def test_a_process_by_itself_belongs_to_no_launch(environment):
    assert launched() is None
    assert agreed("question", lambda: "answer") == "answer"


def test_a_step_of_slurm_is_known_by_its_own_numbers(environment):
    environment(STEP)
    launch = launched()
    assert launch is not None
    assert (launch.launcher, launch.rank, launch.per_node, launch.world_size) == ("srun", 3, (2, 2), 4)
    assert launch.address == ("gpu07", 23456)
    environment(MASTER_ADDR="there", MASTER_PORT="7")
    launch = launched()
    assert launch is not None and launch.address == ("there", 7)


def test_torchrun_is_known_even_inside_of_slurm(environment):
    environment(STEP, TORCHRUN)
    launch = launched()
    assert launch is not None
    assert (launch.launcher, launch.rank, launch.per_node) == ("torchrun", 4, (3, 3))
    assert launch.address == ("10.0.0.1", 29500)


def test_what_is_typed_into_a_shell_of_slurm_was_not_launched(environment):
    environment(STEP, SLURM_JOB_NAME="interactive", SLURM_STEP_TASKS_PER_NODE="1", SLURM_PROCID="0")
    assert launched() is None


def test_a_job_script_without_srun_is_known(environment, monkeypatch):
    environment(STEP)
    assert unlaunched_tasks() == 0
    monkeypatch.delenv("SLURM_STEP_ID")
    assert launched() is None
    assert unlaunched_tasks() == 8


ASK = """
import os, sys
from aigc_lightning.core.run.launch import agreed

def choose():
    if "fail" in sys.argv:
        raise ValueError("no folder")
    return "the first one's answer"

print(agreed("question", choose))
if os.environ["SLURM_PROCID"] == "0":  # as in a run, the first process does not leave before the others
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_processes_of_a_step_agree_or_end_together(fails, tmp_path):
    common: dict[str, Any] = {**STEP, "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "MASTER_ADDR": "127.0.0.1"}
    common["MASTER_PORT"] = str(free_port())
    command = [sys.executable, "-c", ASK, *(["fail"] if fails else [])]
    started = [
        subprocess.Popen(
            command,
            env={**common, "SLURM_PROCID": str(rank), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in reversed(started)][::-1]  # the first is let go last
    if fails:
        assert [process.returncode for process in started] == [1, 2]
        assert "no folder" in outputs[0][1]
        assert "Error" not in outputs[1][1]
    else:
        assert [process.returncode for process in started] == [0, 0], outputs
        assert [out for out, _ in outputs] == ["the first one's answer\n"] * 2


def test_a_free_port_is_not_one_that_the_system_gives_to_connections():
    port = free_port()
    assert 10000 <= port < 20000
    with socket.socket() as taken:
        taken.bind(("", port))
        assert free_port() != port


def test_the_environment_is_restored(monkeypatch):
    monkeypatch.setenv("AIGC_LIGHTNING_TEST", "before")
    with pytest.raises(ValueError), restored_environment():
        os.environ.update(AIGC_LIGHTNING_TEST="within", AIGC_LIGHTNING_NEW="within")
        raise ValueError
    assert os.environ["AIGC_LIGHTNING_TEST"] == "before" and "AIGC_LIGHTNING_NEW" not in os.environ
