"""Processes by name: what is between an image and noise, and what the network predicts."""

from inspect import signature
from typing import Any

from aigc_lightning.errors import UserError

from aigc_diffusion.checks import check_choice
from aigc_diffusion.processes.base import Estimate, Mix, Network, Pair, Process
from aigc_diffusion.processes.edm import EDM, standard_deviation
from aigc_diffusion.processes.flow import FlowMatching
from aigc_diffusion.processes.mean_flow import MeanFlow
from aigc_diffusion.processes.vp import VP

__all__ = [
    "EDM",
    "PROCESSES",
    "VP",
    "Estimate",
    "FlowMatching",
    "MeanFlow",
    "Mix",
    "Network",
    "Pair",
    "Process",
    "make_process",
    "standard_deviation",
]

PROCESSES: dict[str, type[Process]] = {"flow": FlowMatching, "edm": EDM, "vp": VP, "mean_flow": MeanFlow}


def make_process(name: str, **options: Any) -> Process:
    """Return a process by its name.

    Args:
        name: a key of `PROCESSES`.
        **options: arguments of its class.

    Raises:
        UserError: a name that is unknown, an option that the process does not have, or options that do not go together.
    """
    check_choice("The process", name, tuple(PROCESSES))
    known = signature(PROCESSES[name]).parameters
    for option in options:
        if option not in known:
            raise UserError(f"The process {name!r} has no option {option!r}.", f"It has {', '.join(known)}.")
    return PROCESSES[name](**options)
