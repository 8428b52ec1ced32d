"""Errors that users make and can correct.

Standard library only: listings and the command line use it without importing torch.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from difflib import get_close_matches

#: Whether the user wants to see tracebacks: `--debug`.
debugging: ContextVar[bool] = ContextVar("debugging", default=False)


class UserError(ValueError):
    """Invalid user input: shown as a short message, with exit code 2 and no traceback.

    Args:
        what: what was wrong and where, in one sentence.
        hint: what to do next, in one sentence.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what}\n{hint}" if hint else what)


def did_you_mean(name: str, known: Iterable[str], *, limit: int = 3, prefix: str = "") -> str:
    """Return "Did you mean a or b?", or the whole list if nothing is similar and it is short, or "".

    Args:
        name: the unknown name.
        known: the names that exist.
        limit: maximum number of suggestions.
        prefix: written before each name, such as "data.", and not compared.
    """
    choices = sorted(set(known))
    folded = {choice.lower().replace("_", "-"): choice for choice in choices}
    near = get_close_matches(name.lower().replace("_", "-"), folded, n=limit, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(prefix + folded[n] for n in near)}?"
    if 0 < len(choices) <= 12:
        return f"Known: {', '.join(prefix + choice for choice in choices)}."
    return ""
