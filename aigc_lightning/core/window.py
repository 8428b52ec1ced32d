"""The part of a step that is running, and the samples of the global batch that it covers."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BatchLayout:
    """The position of a process's batch in the global batch.

    Args:
        start: number of global samples before it.
        count: number of samples of this process.
        total: number of samples of all processes.
    """

    start: int
    count: int
    total: int


@dataclass
class Window:
    """The part of a step that is running: which update is live, on which micro-batch."""

    live: int | None = None  # number of the running update within the step; None: all run
    first: bool = True
    last: bool = True
    weight: float = 1.0  # factor that turns the mean loss of this part into its share of the global batch's mean
    start: int = 0  # position of its first sample in the global batch
    total: int = 0  # number of samples in the global batch
    updates: int = 0  # number of calls of `update` so far
    site: int = 0  # where random numbers are drawn: 0 outside the updates, n inside the n-th
    draws: dict[int, int] = field(default_factory=dict)  # number of draws so far at each site
