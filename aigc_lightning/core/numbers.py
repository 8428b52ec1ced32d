"""Numbers that users give to models."""

from aigc_lightning.errors import UserError


def check_numbers(*, zero: bool = False, **values: float) -> None:
    """Refuse negative numbers among a model's arguments, and zeros unless they are allowed.

    Args:
        zero: whether 0 is fine.
        **values: the arguments by name.

    Raises:
        UserError: one of them is too small; the message names it as `model.<name>`.
    """
    for name, value in values.items():
        if value < 0 or (value == 0 and not zero):
            raise UserError(f"model.{name} is {value}.", "Give 0 or more." if zero else "Give a positive number.")
