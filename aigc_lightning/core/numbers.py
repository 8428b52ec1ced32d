"""Range checks of models' numeric arguments."""

import math

from aigc_lightning.errors import UserError

#: Maximum number of layers of one kind; more than any paper uses is probably a mistake.
MOST_LAYERS = 1000


def check_numbers(*, zero: bool = False, most: float = math.inf, **values: float) -> None:
    """Reject negative and infinite numbers among a model's arguments, and zeros unless allowed.

    Args:
        zero: whether 0 is allowed.
        most: the largest allowed number, for counts of layers: a million layers would take hours to build.
        **values: the arguments by name.

    Raises:
        UserError: one of them is out of range; the message names it as `model.<name>`.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(f"model.{name} is {value}.", "Give a finite number.")
        if value > most:
            raise UserError(f"model.{name} is {value}.", f"Give at most {most:g}.")
        if value < 0 or (value == 0 and not zero):
            raise UserError(f"model.{name} is {value}.", "Give 0 or more." if zero else "Give a positive number.")
