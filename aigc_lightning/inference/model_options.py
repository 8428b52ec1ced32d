"""Command options that a model declares through the arguments of the method that the command calls."""

import math
from collections.abc import Iterable, Mapping
from inspect import Parameter
from typing import Any, get_args

from aigc_lightning.core.capabilities import CONDITIONS, num_sampled_classes, takes
from aigc_lightning.core.method_options import method_options
from aigc_lightning.errors import UserError, did_you_mean


def model_options(model: object, method: str, given: Mapping[str, str], known: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values of a model's own options, by argument name.

    Args:
        model: the model.
        method: such as "sample"; `method_options` says which of its arguments are options.
        given: values as texts, by name, from `split_model_options`.
        known: options of the command, such as "--seeds", to suggest for a misspelt one.

    Raises:
        UserError: the model has no such option, or the text is not a value of its type.
    """
    offered = method_options(getattr(model, method))
    for name in given:
        if name not in offered:
            listed = ", ".join(f"--{option}" for option in offered)
            takes = f"This model takes {listed}." if offered else "This model takes no options of its own."
            hint = did_you_mean(f"--{name}", [*known, *(f"--{option}" for option in offered)])
            what = f"Neither the command nor {type(model).__name__} knows '--{name}'."
            raise UserError(what, f"{hint} {takes}".strip())
    return {name: _value(name, text, offered[name]) for name, text in given.items()}


def check_condition(model: object, method: str, argument: str) -> None:
    """Check that a method of a model has one of the arguments in `CONDITIONS`.

    Args:
        model: the model.
        method: "sample", "decode" or "edit".
        argument: such as "prompts".

    Raises:
        UserError: it does not; the message says what the model takes instead.
    """
    function = getattr(model, method, None)
    if takes(function, argument):
        return
    own = CONDITIONS[method]
    others = [option for name, option in own.items() if takes(function, name)]
    if "labels" in own and not num_sampled_classes(model):
        others = [option for option in others if option != own["labels"]]
    others += [f"--{other}" for other in (method_options(function) if function else {})]
    listed = f"it takes {', '.join(others)}." if others else "it takes no other options."
    raise UserError(f"{type(model).__name__} does not take {own[argument]}.", f"Leave it out: {listed}")


def _value(name: str, text: str, parameter: Parameter) -> Any:
    """Parse the text of an option's value.

    Raises:
        UserError: it is not of the argument's type.
    """
    kind, default = parameter.annotation, parameter.default
    if kind is str:
        return text
    if kind is int or kind is float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            wanted = "whole number" if kind is int else "number"
            raise UserError(f"--{name} is {text!r}.", f"Give a {wanted}; the default is {default}.")
        return value
    choices = {"true": True, "false": False} if kind is bool else {str(choice): choice for choice in get_args(kind)}
    if text not in choices:
        raise UserError(f"--{name} is {text!r}.", did_you_mean(text, choices) or f"Give {' or '.join(choices)}.")
    return choices[text]
