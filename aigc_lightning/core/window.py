"""Which part of a step is running, and which samples of the global batch are in hand."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BatchLayout:
    """Where a process's batch lies in the global batch.

    Args:
        start: number of global samples that lie before it.
        count: samples of this process.
        total: samples of all processes together.
    """

    start: int
    count: int
    total: int


@dataclass
class Window:
    """The part of a step that is running: which update is live, on which micro-batch."""

    live: int | None = None  # number of the update within the step; None: all are
    first: bool = True
    last: bool = True
    weight: float = 1.0  # factor that turns the mean loss of this part into its share of the global batch's
    start: int = 0  # global place of its first sample
    total: int = 0  # samples of the global batch
    updates: int = 0  # calls of `update` so far
    site: int = 0  # where random numbers are drawn: 0 outside of the updates, n inside the n-th
    draws: dict[int, int] = field(default_factory=dict)  # numbers of draws so far at each site
