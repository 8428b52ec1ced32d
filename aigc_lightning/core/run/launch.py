"""Detects launchers, and lets their processes agree on things before Lightning connects them."""

import os
import random
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aigc_lightning.errors import UserError

_WAIT = timedelta(minutes=10)  # for a node that is slow to start, or late to notice that it has to restart
_LAST_WORDS = timedelta(seconds=60)  # for the first process to report why it cannot choose
#: Names that Slurm gives to interactive jobs; processes started by hand in them belong to no job step.
_TYPED_IN = ("bash", "interactive")
#: Stores served by this process; a later process group at the same port shares them.
_served: list[Any] = []


class SaidByFirstError(SystemExit):
    """Ends a process silently: the first process reports the error."""

    def __init__(self) -> None:
        super().__init__(2)


@dataclass(frozen=True)
class Launch:
    """The processes of a run that were started by an external launcher.

    Args:
        launcher: "srun" or "torchrun".
        rank: rank of this process.
        per_node: number of processes on each node, in the order of the nodes.
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
    """Return the launch that this process belongs to; None for a process started without a launcher."""
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
    """Return the number of tasks of the Slurm job if this process runs in it without srun, else 0."""
    if "SLURM_JOB_ID" not in os.environ or "SLURM_STEP_ID" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        return 0
    return 0 if os.environ.get("SLURM_JOB_NAME") in _TYPED_IN else int(os.environ.get("SLURM_NTASKS", "0"))


def default_port(job: int) -> int:
    """Return a port for a Slurm job, below the range for outgoing connections (32768 and up)."""
    return 20000 + job % 10000


def free_port() -> int:
    """Return a port that nobody uses, out of a range that the system does not give to outgoing connections.

    Until the first process listens there, seconds later, one that the system chooses may be taken by any connection.
    """
    for port in random.SystemRandom().sample(range(10000, 20000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise UserError(
        "None of 100 ports from 10000 to 19999 is free on this machine.", "Name one: export MASTER_PORT=..."
    )


def tasks_per_node(text: str) -> tuple[int, ...]:
    """Expand Slurm's compact lists of numbers, as in (2, 2, 1) for "2(x2),1"."""
    numbers: list[int] = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        numbers += [int(count)] * int(times.rstrip(")") or 1)
    return tuple(numbers)


def first_node(nodes: str) -> str:
    """Return the first host of Slurm's compact form, such as n3 for "n[3-5,7],m1"."""
    found = re.match(r"([^,\[]*)(?:\[([^\],-]*)[^\]]*\]([^,]*))?", nodes)
    assert found is not None
    return "".join(part or "" for part in found.groups())


def agreed(name: str, choose: Callable[[], str]) -> str:
    """Return the first process's choice in all processes of a launcher; without a launcher, choose here.

    Args:
        name: of the choice; made once per start of the run.
        choose: makes the choice; called in the first process only.
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
            store.set(key, "-")  # so that the others do not wait for it
            _wait_to_be_heard(store, key, launch.world_size)
            raise
        store.set(key, f"+{choice}")
    answer = store.get(key).decode()
    if answer == "-":
        store.set(f"{key}/{launch.rank}", "heard")
        raise SaidByFirstError
    return str(answer[1:])


def meet_anew() -> None:
    """Let processes that torchrun has restarted rendezvous at a fresh address.

    The store that torchrun keeps for them still has the addresses of the ended processes, and a process that is faster
    than the others would wait for those (torch 2.15, static rendezvous).
    """
    launch = launched()
    if launch is None or launch.launcher != "torchrun" or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return
    host, _, port = agreed("meeting point", lambda: _own_place(launch)).rpartition(":")
    os.environ.update(MASTER_ADDR=host, MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE="False")


def _own_place(launch: Launch) -> str:
    """Return this process's address as seen from the former rendezvous, with a free port."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(launch.address)
        host = probe.getsockname()[0]
    return f"{host}:{free_port()}"


def _store(launch: Launch) -> Any:
    """Return a client of the key-value store that all processes share."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch does not list it

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return TCPStore(*launch.address, timeout=_WAIT)
    # The port is the process group's own; stores of one process share it.
    store = TCPStore(
        *launch.address, is_master=launch.rank == 0, timeout=_WAIT, wait_for_workers=False, multi_tenant=True
    )
    if launch.rank == 0:
        _served.append(store)
    return store


def _wait_to_be_heard(store: Any, key: str, world_size: int) -> None:
    try:
        store.wait([f"{key}/{rank}" for rank in range(1, world_size)], _LAST_WORDS)
    except RuntimeError:  # they have already ended
        return
