"""Inspection of the declared types of arguments."""

import collections.abc
import typing
from collections.abc import Iterator
from datetime import date, time, timedelta
from enum import Enum
from os import PathLike
from types import NoneType, UnionType
from typing import Any

#: Types of plain values, which are allowed for every argument.
PLAIN = (NoneType, bool, int, float, complex, str, bytes, Enum, PathLike, timedelta, date, time)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)


def members(declared: Any) -> Iterator[Any]:
    """Yield the members of a union except None, or the type itself."""
    origin = typing.get_origin(declared)
    if origin in (typing.Union, UnionType):
        for member in typing.get_args(declared):
            yield from members(member)
    elif origin is typing.Annotated:
        yield from members(typing.get_args(declared)[0])
    elif declared is not NoneType:
        yield declared


def origin_of(declared: Any) -> Any:
    """Return a type without its type arguments: `list` for `list[int]`."""
    return typing.get_origin(declared) or declared


def is_sequence(origin: Any) -> bool:
    """Return whether a type is an iterable other than a mapping."""
    return isinstance(origin, type) and issubclass(origin, collections.abc.Iterable) and origin not in MAPPINGS


def is_class(declared: Any) -> bool:
    """Return whether a declared type is a class, but not `object` or a mapping."""
    return isinstance(declared, type) and declared not in (object, Any, *MAPPINGS)


def is_built(declared: Any) -> bool:
    """Return whether a declared type is a class that configs may instantiate."""
    return is_class(declared) and not issubclass(declared, PLAIN)


def is_plain(declared: Any) -> bool:
    """Return whether a type has plain values only, such as `int` or a `Literal`."""
    origin = origin_of(declared)
    return origin is typing.Literal or (isinstance(origin, type) and issubclass(origin, PLAIN))


def classes(declared: Any, *, by_text: bool = False) -> tuple[type, ...]:
    """Return the classes whose instances an argument takes, including those in its lists and mappings.

    Args:
        declared: declared type of the argument.
        by_text: ignore union members after `str`, since a string is then taken literally.
    """
    found: list[type] = []
    for member in members(declared):
        origin = origin_of(member)
        if by_text and origin in (str, Any, object):
            break
        if getattr(origin, "__module__", "") in _CONTAINERS:
            for argument in typing.get_args(member):
                found += classes(argument, by_text=by_text)
        elif is_built(origin):
            found.append(origin)
    return tuple(dict.fromkeys(found))


_CONTAINERS = ("builtins", "collections", "collections.abc")
