"""Checking options that come from a checkpoint's record or a run's config rather than from the user.

A run folder may come from a stranger. So its options contact no address that the user has not given, and set nothing
that contacts a server or names a place to write to; paths are printed before they are read. Secrets that were redacted
in saved configs are filled in again from the environment.
"""

import inspect
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_only

from aigc_lightning import plugins
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.redaction import (
    ADDRESSES_VARIABLE,
    HIDDEN,
    known_addresses,
    meet,
    redacted,
    redacted_address,
    revealed,
)
from aigc_lightning.errors import UserError

#: Options about how a run is started, which only the user sets.
_STARTING = ("config", "run", "resume", "checkpoint")


class _Value(NamedTuple):
    """The value of an option, and where it is stored."""

    name: str  # dotted, with `init_args`
    holder: Any  # a namespace, mapping or list
    key: Any
    value: Any

    @property
    def option(self) -> str:
        """The name of the option as a user writes it."""
        return self.name.replace(".init_args", "")

    def put(self, value: Any) -> None:
        """Replace the value."""
        self.holder[self.key] = value


def settle(values: Any, recorded: Mapping[str, Any], origin: str, argv: Sequence[str]) -> None:
    """Check the parsed options of a command before anything is built from them; they are changed in place.

    Args:
        values: a namespace of jsonargparse.
        recorded: the sections that come from a record or a run's config, as plain values; empty if the user gave all
            options.
        origin: where these sections come from, such as the path of the config.
        argv: the options given by the user.

    Raises:
        UserError: there is an address that the user has not given, or a secret is missing.
    """
    theirs = {item.name: item.value for item in _walk(dict(recorded))}
    paths = []
    for item in list(_walk(values)):
        if not item.value or item.name.partition(".")[0] in _STARTING:
            continue
        if isinstance(item.value, str) and HIDDEN in item.value:
            item.put(_revealed(item, origin))
            continue
        if theirs.get(item.name) != item.value or _is_given(item, argv):
            continue
        if _is_for_users(item, values):
            _leave_out(item, values, origin)
        elif is_address(item.value):
            _check_address(item, origin, argv)
        elif _is_path(item):
            paths.append(f"{item.option} {item.value}")
    meet([item.value for item in _walk(values)])
    if paths:
        rank_zero_only(echo)(f"As {origin} says: {', '.join(paths)}")


def to_repeat(values: Any) -> list[str]:
    """Return the options that a user must give again to resume a run, since `settle` would refuse or drop them."""
    options = []
    for item in _walk(values):
        if item.name.partition(".")[0] in _STARTING or not item.value:
            continue
        if (isinstance(item.value, str) and is_address(item.value)) or _is_for_users(item, values):
            options += [f"--{item.option}", str(redacted(item.value, str(item.key)))]
    return options


def _walk(holder: Any, name: str = "") -> Iterator[_Value]:
    """Yield all leaf values."""
    pairs: Any = enumerate(holder) if isinstance(holder, list) else _pairs(holder)
    for key, value in pairs:
        dotted = f"{name}.{key}" if name else str(key)
        if isinstance(value, list) or _pairs(value) is not None:
            yield from _walk(value, dotted)
        elif key != "class_path":
            yield _Value(dotted, holder, key, value)


def _pairs(value: Any) -> Any:
    """Return the items of a mapping or namespace, or None for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    return list(vars(value).items()) if hasattr(value, "as_dict") else None


def _revealed(item: _Value, origin: str) -> str:
    """Return the value of which a saved config has only a redacted form.

    Raises:
        UserError: the secret is not available.
    """
    found = revealed(item.value) if is_address(item.value) else None
    if found is None:
        hint = f"Give it again: --{item.option} VALUE"
        if is_address(item.value):
            hint += f", or in the environment: export {ADDRESSES_VARIABLE}=ADDRESS"
        where = f" in {origin}" if origin else ""
        raise UserError(f"{item.option} is {item.value}{where}: secrets are not saved.", f"{hint}.")
    return found


def _is_given(item: _Value, argv: Sequence[str]) -> bool:
    """Return whether the user gave this option."""
    names = (f"--{item.option}", f"--{item.name}")
    return any(argument.partition("=")[0] in names for argument in argv)


def _check_address(item: _Value, origin: str, argv: Sequence[str]) -> None:
    if item.value in known_addresses() or any(item.value in argument for argument in argv):
        return
    shown = redacted_address(item.value)
    raise UserError(
        f"{item.option} of {origin} is the address {shown}, which you have not given.",
        f"If you trust it, add --{item.option} {shlex.quote(shown)}, or put the address into {ADDRESSES_VARIABLE}.",
    )


def _is_for_users(item: _Value, values: Any) -> bool:
    """Return whether the data class allows only users to set this argument."""
    return item.key in _said_by_user(_class_of(item, values))


def _class_of(item: _Value, values: Any) -> Any:
    """Return the data class that a value is an argument of, or None for other values."""
    *path, section, _ = ["", "", *item.name.split(".")]
    if section != "init_args":
        return None
    group = values
    for key in path[2:]:
        group = group[int(key) if isinstance(group, list) else key]
    plugin = plugins.find_by_class_path("data", str(group["class_path"]))
    return None if plugin is None else plugin.load()


def _said_by_user(data_class: Any) -> tuple[str, ...]:
    return tuple(getattr(data_class, "said_by_user", ()))


def _leave_out(item: _Value, values: Any, origin: str) -> None:
    default = inspect.signature(_class_of(item, values)).parameters[str(item.key)].default
    if item.value == default:
        return
    item.put(default)
    value = shlex.quote(str(item.value).lower() if isinstance(item.value, bool) else str(item.value))
    rank_zero_only(echo)(
        f"Left out {item.option} {value} of {origin}, which only you may set. To use it, add: --{item.option} {value}"
    )


def _is_path(item: _Value) -> bool:
    if not isinstance(item.value, str | Path):
        return False
    text = str(item.value)
    return os.sep in text or (len(text) < 256 and Path(text).expanduser().exists())
