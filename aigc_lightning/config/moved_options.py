"""Options under their former names, as old command lines, configs and records write them."""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import Namespace

from aigc_lightning.errors import UserError

#: Former to present names: (section, option).
_MOVED = {("engine", "ema_decay"): ("ema", "decay")}


def in_command_line(argv: Sequence[str]) -> list[str]:
    """Return arguments with the present names of options."""
    names = {f"--{'.'.join(old)}": f"--{'.'.join(new)}" for old, new in _MOVED.items()}
    split = [argument.partition("=") for argument in argv]
    return ["".join([names.get(option, option), equals, value]) for option, equals, value in split]


def in_config(values: Any) -> Any:
    """Return the sections of a config with the present names of options; what is given is not changed.

    Args:
        values: a mapping or namespace of sections; anything else is returned as it is.

    Raises:
        UserError: an option is given under both names, with different values.
    """
    if not isinstance(values, Mapping | Namespace):
        return values
    found = dict(values) if isinstance(values, Mapping) else dict(vars(values))
    moved = False
    for (section, option), (new_section, new_option) in _MOVED.items():
        old = _items(found.get(section))
        if option in old:
            value = old.pop(option)
            new = _items(found.get(new_section))
            if new.setdefault(new_option, value) != value:
                raise UserError(
                    f"{section}.{option} is {value} and {new_section}.{new_option} is {new[new_option]}.",
                    f"Leave {section}.{option} out, which is the former name.",
                )
            found |= {section: old, new_section: new}
            moved = True
    if not moved:
        return values
    return found if isinstance(values, Mapping) else Namespace(found)  # type: ignore[no-untyped-call]


def _items(section: Any) -> dict[str, Any]:
    if isinstance(section, Namespace):
        return dict(vars(section))
    return dict(section) if isinstance(section, Mapping) else {}
