"""What a declared type of an argument is made of."""

import collections.abc
import typing
from collections.abc import Iterator
from datetime import date, time, timedelta
from enum import Enum
from os import PathLike
from types import NoneType, UnionType
from typing import Any

#: Types of values that are data whatever a place is declared as.
PLAIN = (NoneType, bool, int, float, complex, str, bytes, Enum, PathLike, timedelta, date, time)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)


def members(declared: Any) -> Iterator[Any]:
    """Yield the types of a union, or the type itself; None is left out."""
    origin = typing.get_origin(declared)
    if origin in (typing.Union, UnionType):
        for member in typing.get_args(declared):
            yield from members(member)
    elif origin is typing.Annotated:
        yield from members(typing.get_args(declared)[0])
    elif declared is not NoneType:
        yield declared


def origin_of(declared: Any) -> Any:
    """Return what a type is without its arguments: `list` of `list[int]`."""
    return typing.get_origin(declared) or declared


def is_sequence(origin: Any) -> bool:
    """Return whether a type holds items one after another."""
    return isinstance(origin, type) and issubclass(origin, collections.abc.Iterable) and origin not in MAPPINGS


def is_class(declared: Any) -> bool:
    """Return whether a declared type is a class that objects can be of, and no container of other types."""
    return isinstance(declared, type) and declared not in (object, Any, *MAPPINGS)


def is_built(declared: Any) -> bool:
    """Return whether a declared type is a class of which configs may have objects built."""
    return is_class(declared) and not issubclass(declared, PLAIN)


def is_plain(declared: Any) -> bool:
    """Return whether a type is one of plain values, such as `int` or a choice of texts."""
    origin = origin_of(declared)
    return origin is typing.Literal or (isinstance(origin, type) and issubclass(origin, PLAIN))


def classes(declared: Any, *, by_text: bool = False) -> tuple[type, ...]:
    """Return the classes of which a place takes objects, those in its lists and mappings included.

    Args:
        declared: type of the place.
        by_text: leave out what stands after `str` in a union, where a text means itself.
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
