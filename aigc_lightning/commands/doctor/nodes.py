"""`aigc doctor` under srun or torchrun: whether processes reach each other, and how their nodes differ."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aigc_lightning.core.io.plural import counted
from aigc_lightning.core.run.launch import Launch
from aigc_lightning.errors import UserError

_WAIT = timedelta(seconds=60)
_ROUNDS = 8  # requests for the time; the quickest reply counts
_SKEW_S = 1.0  # larger skews make logs and file times misleading


@dataclass(frozen=True)
class Process:
    """What a process reports about itself.

    Args:
        node: name of its machine.
        address: the address to which the machine itself resolves its name.
        report: report on its machine, by topic.
    """

    node: str
    address: str
    report: dict[str, str]


def nodes_report(launch: Launch, own: Mapping[str, str]) -> dict[str, str]:
    """Return a report on all processes of a launch; called in each of them.

    Args:
        launch: the launch of this process.
        own: the report on this process's machine.

    Raises:
        UserError: the processes cannot communicate.
    """
    import torch.distributed as dist

    host, port = launch.address
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = host, str(port)
    name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    try:
        dist.init_process_group("gloo", rank=launch.rank, world_size=launch.world_size, timeout=_WAIT)
        found: list[Any] = [None] * launch.world_size
        dist.all_gather_object(found, Process(name, _address_of(socket.gethostname()), dict(own)))
        skews = _skews(launch)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"Process {launch.rank} on {name} does not reach the others at {host}, port {port}: {_first_line(error)}",
            "Check that nodes reach each other there, and name the network device: export GLOO_SOCKET_IFNAME=eth0",
        ) from error
    dist.destroy_process_group()
    return described(launch, found, skews)


def described(launch: Launch, processes: Sequence[Process], skews: Sequence[float]) -> dict[str, str]:
    """Return the report by topic.

    Args:
        launch: the launch of the processes.
        processes: what they report, by rank.
        skews: seconds by which each clock is ahead of the first one.
    """
    import torch

    ranks = _ranks(launch, processes)
    firsts = {label: numbers[0] for label, numbers in ranks.items()}
    count, each = len(launch.per_node), ", ".join(map(str, dict.fromkeys(launch.per_node)))
    report = {
        "launcher": f"{launch.launcher}, {counted(launch.world_size, 'process')} on {counted(count, 'node')}, "
        f"{each} on each",
        "ranks": "; ".join(f"{label}: {', '.join(map(str, numbers))}" for label, numbers in ranks.items()),
        "backend": "nccl" if torch.cuda.is_available() else "gloo",
        "address": f"{launch.address[0]} port {launch.address[1]}",
        "time skew": "; ".join(f"{label}: {1000 * skews[rank]:+.1f} ms" for label, rank in firsts.items()),
    }
    own = {label: processes[rank].address for label, rank in firsts.items()}
    report["node addresses"] = "; ".join(f"{label}: {address}" for label, address in own.items())
    local = [label for label, address in own.items() if address.startswith("127.")]
    if local and count > 1 and "GLOO_SOCKET_IFNAME" not in os.environ:
        report["node addresses"] += " <- others cannot reach it: export GLOO_SOCKET_IFNAME=eth0 (or similar) first"
    late = [label for label, rank in firsts.items() if abs(skews[rank]) > _SKEW_S]
    if late:
        report["time skew"] += f" <- set the clock of {', '.join(late)}"
    reports = {label: processes[rank].report for label, rank in firsts.items()}
    report["differences"] = _differences(reports) or "none: versions and machines are the same"
    return report


def _ranks(launch: Launch, processes: Sequence[Process]) -> dict[str, list[int]]:
    """Return the ranks of each node; nodes with the same name, as in tests, are numbered."""
    ranks: dict[str, list[int]] = {}
    first = 0
    for number, count in enumerate(launch.per_node):
        label = processes[first].node
        ranks[f"{label} ({number})" if label in ranks else label] = list(range(first, first + count))
        first += count
    return ranks


def _differences(reports: Mapping[str, Mapping[str, str]]) -> str:
    differing = []
    for topic in next(iter(reports.values())):
        values = {label: report.get(topic, "") for label, report in reports.items()}
        if len(set(values.values())) > 1:
            differing.append(f"{topic}: {', '.join(f'{value} on {label}' for label, value in values.items())}")
    return "; ".join(differing)


def _skews(launch: Launch) -> list[float]:
    """Return the seconds by which each clock is ahead of the first one, corrected by half the round-trip time."""
    import torch
    import torch.distributed as dist

    message = torch.zeros((), dtype=torch.float64)
    skews = [0.0] * launch.world_size
    for rank in range(1, launch.world_size):
        answers = []
        for _ in range(_ROUNDS):
            if launch.rank == 0:
                asked = time.time()
                dist.send(message, rank)
                dist.recv(message, rank)
                answered = time.time()
                answers.append((answered - asked, float(message) - (asked + answered) / 2))
            elif launch.rank == rank:
                dist.recv(message, 0)
                dist.send(torch.tensor(time.time(), dtype=torch.float64), 0)
        if answers:
            skews[rank] = min(answers)[1]
    return skews


def _address_of(name: str) -> str:
    try:
        return socket.gethostbyname(name)
    except OSError:
        return "unknown"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
