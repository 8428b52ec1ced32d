"""What a check is, and what it can find."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn


class CheckFailedError(AssertionError):
    """A plugin does not do what it must."""


class NotApplicableError(Exception):
    """A check has nothing to look at: the plugin does not claim what it is about."""


@dataclass(frozen=True)
class Check:
    """One thing that plugins of a kind must do.

    Args:
        name: as tables and test names show it.
        run: takes the case; raises `CheckFailedError` or `NotApplicableError`.
        slow: whether it belongs to the full set only.
    """

    name: str
    run: Callable[[Any], None]
    slow: bool = False

    @property
    def summary(self) -> str:
        """What it is that plugins must do."""
        return (self.run.__doc__ or "").partition("\n")[0].rstrip(".")


def require(condition: bool, problem: str) -> None:
    """Fail the check with a problem unless a condition holds."""
    if not condition:
        raise CheckFailedError(problem)


def not_applicable(reason: str) -> NoReturn:
    """Leave the check out, saying why."""
    raise NotApplicableError(reason)
