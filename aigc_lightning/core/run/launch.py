"""Which processes a launcher has started, and what they agree on before they can talk through Lightning."""

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

_WAIT = timedelta(minutes=10)  # for a node that is slow to start, or that notices late that it has to start again
_LAST_WORDS = timedelta(seconds=60)  # for the first process to be heard when it cannot choose
#: Names that Slurm gives to jobs in which a person types; processes that they start there belong to no step.
_TYPED_IN = ("bash", "interactive")
#: Stores that this process serves; a later process group at the same port uses them too.
_served: list[Any] = []


class SaidByFirstError(SystemExit):
    """Ends a process without a word: the first process says what is wrong."""

    def __init__(self) -> None:
        super().__init__(2)


@dataclass(frozen=True)
class Launch:
    """The processes of a run that were started from outside.

    Args:
        launcher: "srun" or "torchrun".
        rank: number of this process.
        per_node: processes on each node, in the nodes' order.
        address: host and port at which the first process meets the others.
    """

    launcher: str
    rank: int
    per_node: tuple[int, ...]
    address: tuple[str, int]

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return sum(self.per_node)


def launched() -> Launch | None:
    """Return the launch that this process belongs to; None for a process that was started by itself."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:  # first: torchrun may itself run under srun
        world_size, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        nodes = int(environment.get("GROUP_WORLD_SIZE", "1"))
        per_node = (local,) * nodes if local * nodes == world_size else (local, world_size - local)
        address = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        return Launch("torchrun", int(environment["RANK"]), per_node, address)
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return None
    per_node = tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    if sum(per_node) == 1 and environment.get("SLURM_JOB_NAME") in _TYPED_IN:
        return None
    host = environment.get("MASTER_ADDR") or first_node(environment.get("SLURM_STEP_NODELIST", "localhost"))
    job = int(environment.get("SLURM_JOB_ID", "0"))
    port = int(environment.get("MASTER_PORT") or default_port(job))
    return Launch("srun", int(environment["SLURM_PROCID"]), per_node, (host, port))


def unlaunched_tasks() -> int:
    """Return the number of tasks that a Slurm job has when this process runs in it without srun, else 0."""
    if "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        return 0
    return 0 if os.environ.get("SLURM_JOB_NAME") in _TYPED_IN else int(os.environ.get("SLURM_NTASKS", "0"))


def default_port(job: int) -> int:
    """Return the port of a Slurm job: below those that systems give to outgoing connections (32768 and up)."""
    return 20000 + job % 10000


def tasks_per_node(text: str) -> tuple[int, ...]:
    """Return the numbers of Slurm's short form, such as (2, 2, 1) for "2(x2),1"."""
    numbers: list[int] = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        numbers += [int(count)] * int(times.rstrip(")") or 1)
    return tuple(numbers)


def first_node(nodes: str) -> str:
    """Return the first name of Slurm's short form, such as n3 for "n[3-5,7],m1"."""
    found = re.match(r"([^,\[]*)(?:\[([^\],-]*)[^\]]*\]([^,]*))?", nodes)
    assert found is not None
    return "".join(part or "" for part in found.groups())


def agreed(name: str, choose: Callable[[], str]) -> str:
    """Return what the first process chooses, in all processes that a launcher has started; elsewhere choose here.

    Args:
        name: of the question; asked once in each start of the run.
        choose: makes the choice; called in the first process alone.
    """
    launch = launched()
    if launch is None or launch.world_size == 1:
        return choose()
    store = _store(launch)
    key = f"aigc_lightning/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"
    if launch.rank == 0:
        try:
            choice = choose()
        except BaseException:
            store.set(key, "-")  # the others need not wait for it
            _wait_to_be_heard(store, key, launch.world_size)
            raise
        store.set(key, f"+{choice}")
    answer = store.get(key).decode()
    if answer == "-":
        store.set(f"{key}/{launch.rank}", "heard")
        raise SaidByFirstError
    return str(answer[1:])


def meet_anew() -> None:
    """Have processes that torchrun has started again meet where nobody met before.

    The store that torchrun keeps for them still tells the addresses of those that have ended, and a process that is
    quicker than the others would wait for those (torch 2.15, static meeting point).
    """
    launch = launched()
    if launch is None or launch.launcher != "torchrun" or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return
    host, _, port = agreed("meeting point", lambda: _own_place(launch)).rpartition(":")
    os.environ.update(MASTER_ADDR=host, MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE="False")


def _own_place(launch: Launch) -> str:
    """Return this process's address on the way to the former meeting point, with a free port."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(launch.address)
        host = probe.getsockname()[0]
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{host}:{free.getsockname()[1]}"


def _store(launch: Launch) -> Any:
    """Return a connection to what keeps words for all processes."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch does not list it

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return TCPStore(*launch.address, timeout=_WAIT)
    # The port is the one at which the process group will meet; stores of one process share it.
    store = TCPStore(
        *launch.address, is_master=launch.rank == 0, timeout=_WAIT, wait_for_workers=False, multi_tenant=True
    )
    if launch.rank == 0:
        _served.append(store)
    return store


def _wait_to_be_heard(store: Any, key: str, world_size: int) -> None:
    try:
        store.wait([f"{key}/{rank}" for rank in range(1, world_size)], _LAST_WORDS)
    except RuntimeError:  # they have ended before
        return
