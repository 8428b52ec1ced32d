"""Quantizers by the names and options of a config."""

from inspect import signature
from typing import Any

from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.errors import UserError

from aigc_autoregressive.tokenizers import QUANTIZERS, Quantizer


def make_quantizer(name: str, options: dict[str, Any]) -> Quantizer:
    """Return a quantizer by name, small unless its options say otherwise.

    Args:
        name: of `QUANTIZERS`.
        options: arguments of the quantizer.

    Raises:
        UserError: there is no such quantizer or option, or its value is of the wrong kind.
    """
    if name not in QUANTIZERS:
        raise UserError(f"model.quantizer is {name!r}.", f"Give one of {', '.join(QUANTIZERS)}.")
    known = signature(QUANTIZERS[name]).parameters
    for option in options:
        if option not in known:
            raise UserError(f"The quantizer {name} has no option {option!r}.", f"It has {', '.join(known)}.")
    small = {} if name == "fsq" else {"num_codes": 256, "width": 8}
    values = {**small, **options}
    if "num_codes" in values:
        check_numbers(num_codes=values["num_codes"], width=values["width"])
    try:
        return QUANTIZERS[name](**values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"The quantizer {name} cannot be built with {options}: {error}", "Correct the options."
        ) from error
