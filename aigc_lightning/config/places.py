"""Checking that each value of a parsed config is allowed: plain values everywhere, objects only where declared.

jsonargparse instantiates classes, calls functions and imports names for arguments without a declared type or declared
as functions. Here such values are refused before anything is instantiated, whatever jsonargparse made of them.
"""

import collections
import math
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from aigc_lightning.compat import typed_arguments
from aigc_lightning.config.allowed_classes import Allowed, imported_class, path_of
from aigc_lightning.config.declared import MAPPINGS, PLAIN, is_built, is_class, is_sequence, members
from aigc_lightning.config.short_names import TRUST
from aigc_lightning.errors import UserError

_SPEC_KEYS = {"class_path", "init_args", "dict_kwargs"}
#: Arguments of Lightning's classes that name folders to write to.
_FOLDERS = ("dirpath", "save_dir")


def check(parser: ArgumentParser, values: Namespace, allowed: Allowed | None, section: str = "") -> None:
    """Check the values of a parser before anything is instantiated from them.

    Args:
        parser: has the declared types.
        values: the parsed values.
        allowed: the classes that may be named; None to allow everything.
        section: prefix of the values' names in error messages.

    Raises:
        UserError: a class or function is not allowed where it is named, or a number is nan.
    """
    if allowed is not None:
        _Places(allowed).check_parser(parser, values, section)


class _MisplacedError(UserError):
    """A value does not fit a type; another member of a union may accept it."""


class _Places:
    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed

    def check_parser(self, parser: ArgumentParser, values: Namespace, section: str) -> None:
        """Check all values of a parser; those without a declared type must be plain."""
        typed = {argument.name: argument for argument in typed_arguments(parser)}
        for name, argument in typed.items():
            value = values.get(name)
            if value is not argument.default and value != argument.default:
                self.check(value, argument.declared, f"{section}{name}")
        for key, value in values.items(branches=True):
            if not any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in typed):
                self.check(value, Any, f"{section}{key}")

    def check(self, value: Any, declared: Any, key: str) -> None:
        """Check one value against the declared type of its argument."""
        if isinstance(value, PLAIN):
            if isinstance(value, float) and math.isnan(value):
                raise UserError(f"{key} is not a number (nan).", "Give a number.")
            if isinstance(value, str) and "class_path" in value and any(map(is_built, members(declared))):
                # If jsonargparse cannot read a value as an object, it falls back to a string where one is allowed.
                raise UserError(f"{key} holds a class with options that it may not have: {value}", TRUST)
            return
        refusals = []
        for member in members(declared):
            try:
                return self._check_member(value, member, key)
            except _MisplacedError as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def _check_member(self, value: Any, declared: Any, key: str) -> None:
        origin, arguments = typing.get_origin(declared) or declared, typing.get_args(declared)
        if isinstance(value, Mapping | Namespace):
            items = value if isinstance(value, Mapping) else vars(value)
            if "class_path" in items:
                return self._check_object(items, origin, key)
            if isinstance(value, Namespace) and is_class(origin):
                return self._check_arguments(origin, value, key)  # a dataclass without subclasses
            item_type = arguments[1] if origin in MAPPINGS and len(arguments) == 2 else Any
            return self._check_all(items.items(), item_type, key)
        if isinstance(value, list | tuple | set | frozenset | collections.deque):
            types = arguments if arguments and is_sequence(origin) else (Any,)
            for number, item in enumerate(value):
                single = origin is not tuple or Ellipsis in types or number >= len(types)
                self.check(item, types[0 if single else number], f"{key}[{number}]")
            return None
        raise _MisplacedError(f"{key} names {_described(value)}, and a config may not name code.", TRUST)

    def _check_all(self, items: Iterable[tuple[Any, Any]], declared: Any, key: str) -> None:
        for name, item in items:
            self.check(item, declared, f"{key}.{name}")

    def _check_object(self, spec: Mapping[str, Any], declared: Any, key: str) -> None:
        path = spec["class_path"]
        found = imported_class(path) if is_class(declared) else None
        if found is None or not self._allowed.allows(found, declared):
            raise _MisplacedError(f"{key} holds a class ({path}), and its place is not declared to take one.", TRUST)
        arguments = spec.get("init_args")
        if arguments is not None:
            self._check_arguments(found, arguments, key)
        self.check(spec.get("dict_kwargs"), Any, key)
        if found.__module__.startswith("lightning."):
            _check_files(arguments or {}, key)

    def _check_arguments(self, found: type, arguments: Any, key: str) -> None:
        values = arguments if isinstance(arguments, Namespace) else Namespace(arguments)  # type: ignore[no-untyped-call]
        self.check_parser(_parser(found), values, f"{key}.")


def _check_files(arguments: Any, key: str) -> None:
    """Refuse arguments of Lightning's classes that point outside the run's folder."""
    for name in _FOLDERS:
        if arguments.get(name) is not None:
            raise UserError(f"{key}.{name} is given, but a run writes only to its own folder.", "Leave it out.")
    name = str(arguments.get("filename") or "")
    outside = "".join(part.partition("}")[2] if number else part for number, part in enumerate(name.split("{")))
    if "/" in outside or "\\" in outside or outside.startswith(".."):
        raise UserError(f"{key}.filename is {name!r}.", "Give a name without a folder.")


@cache
def _parser(found: type) -> ArgumentParser:
    """Return a parser with the declared types of a class's arguments."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(found, fail_untyped=False)
    return parser


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {path_of(value)}"
    name = getattr(value, "__qualname__", None)
    return f"the function {value.__module__}.{name}" if name else f"an object of {path_of(type(value))}"
