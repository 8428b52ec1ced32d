import os

import pytest
import torch

from aigc_lightning.core.run.launch import SaidByFirstError
from aigc_lightning.errors import UserError
from aigc_lightning.training.launch_check import check_launch, cluster_environment


@pytest.fixture
def step(monkeypatch):
    """Put this process into a step of Slurm."""

    def put(per_node="2(x2)", rank=0, **more):
        values = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank)}
        values |= {"SLURM_STEP_TASKS_PER_NODE": per_node, "SLURM_STEP_NODELIST": "n[1-2]", **more}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.setenv(name, "")  # so that what the code sets is taken away again
            monkeypatch.delenv(name)

    return put


def trainer(num_nodes=1, devices="auto", accelerator="cpu"):
    return {"num_nodes": num_nodes, "devices": devices, "accelerator": accelerator}


@pytest.mark.parametrize("devices", [2, "2", [0, 1], "0,1"])
def test_numbers_that_agree_pass(step, devices):
    step()
    check_launch(trainer(2, devices))


def test_all_gpus_are_counted(step, monkeypatch):
    step()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_launch(trainer(2, "auto", "gpu"))


@pytest.mark.parametrize(
    ("per_node", "asked", "what", "hint"),
    [
        ("4(x2)", (2, 2), "8 processes on 2 nodes (4 on each)", "--trainer.num_nodes 2 --trainer.devices 4"),
        ("4", (1, 1), "4 processes on 1 node (4 on each)", "--trainer.num_nodes 1 --trainer.devices 4"),
        ("2,1", (2, 2), "3 processes on 2 nodes (2, 1)", "srun --nodes 2 --ntasks-per-node 2"),
        ("1", (1, 4), "1 process on 1 node (1 on each)", "srun --nodes 1 --ntasks-per-node 4"),
    ],
)
def test_numbers_that_disagree_are_told_with_what_to_write(step, per_node, asked, what, hint):
    step(per_node)
    with pytest.raises(UserError) as raised:
        check_launch(trainer(*asked))
    assert what in raised.value.what
    assert f"trainer.num_nodes {asked[0]} times trainer.devices {asked[1]}" in raised.value.what
    assert hint in raised.value.hint


def test_only_the_first_process_tells(step):
    step(rank=1)
    with pytest.raises(SaidByFirstError) as raised:
        check_launch(trainer())
    assert raised.value.code == 2


def test_a_job_without_srun_is_told(step, monkeypatch):
    step()
    monkeypatch.delenv("SLURM_STEP_ID")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(UserError, match="4 tasks, and this process was not started by srun"):
        check_launch(trainer())
    monkeypatch.setenv("SLURM_NTASKS", "1")
    check_launch(trainer(devices=4))  # one task that starts its own processes
    assert [type(found).__name__ for found in cluster_environment()] == ["LightningEnvironment"]


@pytest.mark.parametrize("name", ["train", "interactive"])
def test_lightning_is_given_the_steps_numbers_and_leaves_the_queue_alone(step, name):
    step(SLURM_JOB_NAME=name)
    (found,) = cluster_environment()
    assert (found.world_size(), found.global_rank(), found.main_address, found.main_port) == (4, 0, "n1", 20007)
    assert not found.auto_requeue
    found.validate_settings(2, 2)


def test_elsewhere_lightning_sees_by_itself():
    assert cluster_environment() == []


def test_a_run_of_one_machine_has_a_port_before_lightning_chooses_one(monkeypatch):
    for name in ("MASTER_PORT", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert cluster_environment() == []
    assert 10000 <= int(os.environ["MASTER_PORT"]) < 20000
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert cluster_environment() == []
    assert os.environ["MASTER_PORT"] == "29500"
