"""Checks and their possible outcomes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn


class CheckFailedError(AssertionError):
    """A plugin fails a check."""


class NotApplicableError(Exception):
    """A check does not apply: the plugin does not claim the feature."""


@dataclass(frozen=True)
class Check:
    """One requirement of plugins of a kind.

    Args:
        name: name in tables and test names.
        run: called with the case; raises `CheckFailedError` or `NotApplicableError`.
        slow: whether it is only in the full set.
    """

    name: str
    run: Callable[[Any], None]
    slow: bool = False

    @property
    def summary(self) -> str:
        """The requirement in words."""
        return (self.run.__doc__ or "").partition("\n")[0].rstrip(".")


def require(condition: bool, problem: str) -> None:
    """Fail the check with a message unless a condition holds."""
    if not condition:
        raise CheckFailedError(problem)


def not_applicable(reason: str) -> NoReturn:
    """Skip the check and give the reason."""
    raise NotApplicableError(reason)
