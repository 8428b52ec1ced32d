"""Refusals that several parts share."""

from aigc_lightning.errors import UserError, did_you_mean


def check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a name that is not known.

    Raises:
        UserError: with the known ones.
    """
    if value not in known:
        raise UserError(f"{what} {value!r} is not known.", did_you_mean(value, known))


def check_steps(steps: int) -> None:
    """Refuse to sample in fewer steps than 1.

    Raises:
        UserError: fewer steps than 1.
    """
    if steps < 1:
        raise UserError(f"A sampler takes at least 1 step, and {steps} were asked for.", "Ask for 1 or more.")
