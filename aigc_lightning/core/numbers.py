"""Numbers that users give to models."""

import math

from aigc_lightning.errors import UserError

#: Of one kind in a network; deeper ones than the papers' are hardly meant.
MOST_LAYERS = 1000


def check_numbers(*, zero: bool = False, most: float = math.inf, **values: float) -> None:
    """Refuse negative and infinite numbers among a model's arguments, and zeros unless they are allowed.

    Args:
        zero: whether 0 is fine.
        most: the largest number that is fine, for counts of layers: a million of them would take hours to build.
        **values: the arguments by name.

    Raises:
        UserError: one of them is out of range; the message names it as `model.<name>`.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(f"model.{name} is {value}.", "Give a finite number.")
        if value > most:
            raise UserError(f"model.{name} is {value}.", f"Give {most:g} at most.")
        if value < 0 or (value == 0 and not zero):
            raise UserError(f"model.{name} is {value}.", "Give 0 or more." if zero else "Give a positive number.")
