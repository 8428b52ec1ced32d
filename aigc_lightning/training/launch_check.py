"""Runs started by torchrun or Slurm: checking the number of processes and configuring Lightning."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aigc_lightning.core.io.plural import counted
from aigc_lightning.core.run.launch import Launch, SaidByFirstError, free_port, launched, meet_anew, unlaunched_tasks
from aigc_lightning.core.run.signals import PATIENCE_S, stopping_signals
from aigc_lightning.errors import UserError


def check_launch(trainer: Any) -> None:
    """Check that the number of started processes is the one that the run asks for.

    Args:
        trainer: the trainer's settings: `accelerator`, `devices` and `num_nodes`.

    Raises:
        UserError: the numbers differ; raised in the first process only, the others exit silently.
    """
    launch = launched()
    if launch is None:
        _check_no_srun(unlaunched_tasks())
        return
    devices, nodes = num_devices(trainer), int(trainer["num_nodes"])
    if launch.per_node == (devices,) * nodes:
        return
    if launch.rank > 0:
        raise SaidByFirstError
    raise _disagreement(launch, devices, nodes)


def cluster_environment() -> list[Any]:
    """Return the plugin that tells Lightning how the processes were started, or none if it detects that itself."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    meet_anew()
    launch = launched()
    if launch is not None and launch.launcher == "srun":
        # Lightning reads the numbers and the name of the job, but those of the step are the right ones.
        os.environ["SLURM_NTASKS"] = str(launch.world_size)
        os.environ["SLURM_NTASKS_PER_NODE"] = str(launch.per_node[0])
        os.environ["SLURM_NNODES"] = str(len(launch.per_node))
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = launch.address[0], str(launch.address[1])
        # Lightning's handler would save in the middle of a step and requeue the job; the job's script does that.
        return [SLURMEnvironment(auto_requeue=False)]
    if launch is None and "LOCAL_RANK" not in os.environ and "NODE_RANK" not in os.environ:
        os.environ.setdefault("MASTER_PORT", str(free_port()))  # the port that Lightning picks may be taken by then
    if launch is None and unlaunched_tasks():
        return [LightningEnvironment()]
    return []


@contextmanager
def answering(strategy: Any) -> Iterator[None]:
    """Let this process and the copies that it starts be stopped even if a signal reaches none of them."""
    from aigc_lightning.compat import starts_copies
    from aigc_lightning.core.run.roll_call import answer_calls, called_by_this

    launcher = strategy.launcher
    if not starts_copies(launcher):  # a single process, or the launcher handles it
        yield
    elif launcher.cluster_environment.creates_processes_externally:  # this process is a copy, or has none
        answer_calls()
        yield
    else:
        with called_by_this(lambda: [process.pid for process in launcher.procs if process.poll() is None]):
            yield


@contextmanager
def ended_together(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Terminate a subprocess if a signal ends this process during the block; kill it if it does not respond."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    former = {number: signal.signal(number, leave) for number in stopping_signals() if is_main}
    try:
        yield
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def num_devices(trainer: Any) -> int:
    """Return the number of processes per node that a run asks for."""
    devices, accelerator = trainer["devices"], trainer["accelerator"]
    if isinstance(devices, list):
        return len(devices)
    if devices not in ("auto", -1, "-1"):
        return len(str(devices).split(",")) if "," in str(devices) else int(devices)
    if accelerator in ("auto", "gpu", "cuda"):
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def _check_no_srun(tasks: int) -> None:
    if tasks > 1:
        raise UserError(
            f"The Slurm job has {tasks} tasks, and this process was not started by srun, so it would run alone.",
            "Write `srun aigc fit ...` in the script, or ask for one task: #SBATCH --ntasks=1",
        )


def _disagreement(launch: Launch, devices: int, nodes: int) -> UserError:
    num_nodes, most = len(launch.per_node), max(launch.per_node)
    on_nodes = f"{counted(num_nodes, 'node')} ({', '.join(map(str, dict.fromkeys(launch.per_node)))} on each)"
    if len(set(launch.per_node)) > 1:
        on_nodes = f"{num_nodes} nodes ({', '.join(map(str, launch.per_node))})"
    what = (
        f"{launch.launcher} started {counted(launch.world_size, 'process')} on {on_nodes}, and the run asks for "
        f"{nodes * devices}: trainer.num_nodes {nodes} times trainer.devices {devices}."
    )
    option = {"srun": "--nodes {} --ntasks-per-node {}", "torchrun": "--nnodes {} --nproc-per-node {}"}[launch.launcher]
    start = f"{launch.launcher} {option.format(nodes, devices)}"
    if len(set(launch.per_node)) > 1:
        return UserError(what, f"Start the same number on each node, for this run: {start}")
    return UserError(
        what, f"Write --trainer.num_nodes {num_nodes} --trainer.devices {most}, or start what it asks for: {start}"
    )
