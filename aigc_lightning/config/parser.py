"""The parser of all options, which replaces short names by class paths before jsonargparse sees them.

What a name means depends on the declared type of its argument. jsonargparse parses the arguments of each class named in
a config with another parser of the same type, so every value, however deeply nested, is an argument of a parser here.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jsonargparse
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from aigc_lightning.compat import typed_arguments
from aigc_lightning.config import moved_options, short_names
from aigc_lightning.config.declared import MAPPINGS, classes, is_plain, is_sequence, members, origin_of
from aigc_lightning.errors import UserError


class Parser(LightningArgumentParser):
    """A parser whose values may be short names of plugins and listed classes."""

    def parse_args(  # type: ignore[override]  # as jsonargparse has it
        self, args: Sequence[str] | None = None, *others: Any, **options: Any
    ) -> Namespace:
        """Parse a command line; see jsonargparse."""
        if args is not None:
            args = self._names().in_command_line(moved_options.in_command_line(args))
        return super().parse_args(args, *others, **options)

    def parse_object(self, obj: Any, *others: Any, **options: Any) -> Namespace:
        """Parse a mapping; see jsonargparse."""
        try:
            values = Namespace(obj)  # type: ignore[no-untyped-call]  # splits keys at dots
        except (KeyError, TypeError, ValueError):
            values = obj  # for jsonargparse to complain about
        return cast(Namespace, super().parse_object(self._names()(values), *others, **options))

    def parse_string(self, content: str, *others: Any, **options: Any) -> Namespace:
        """Parse YAML, such as the text of a config file; see jsonargparse."""
        short_names.expect(content, self._names())
        return cast(Namespace, super().parse_string(content, *others, **options))

    def _names(self) -> "_Arguments":
        types = {argument.name: argument.declared for argument in typed_arguments(self)}
        found = {name: declared for name, declared in types.items() if classes(declared)}
        short_names.let_import(each for declared in found.values() for each in classes(declared))
        return (_Sections if "ema.decay" in types else _Arguments)(found)


@dataclass(frozen=True)
class _Arguments:
    """Replaces short names by class paths in a mapping of arguments.

    Args:
        types: declared types by name, for arguments that take objects.
    """

    types: Mapping[str, Any]

    def __call__(self, values: Any) -> Any:
        """Return a copy of a mapping with class paths."""
        if not isinstance(values, Mapping | Namespace):
            return values
        return _changed(values, {key: self.at(str(key).removesuffix("+"), value) for key, value in _items(values)})

    def in_command_line(self, argv: Sequence[str]) -> list[str]:
        """Return command-line arguments with class paths in their values."""
        found: list[str] = []
        rest = list(argv)
        while rest:
            argument = rest.pop(0)
            option, equals, value = argument.partition("=")
            if argument == "--":  # what follows are no options
                return [*found, argument, *rest]
            name = option.removeprefix("--").removesuffix("+")
            if not option.startswith("--"):
                found.append(argument)
            elif equals:
                found.append(f"{option}={self.at(name, value)}")
            else:
                values = [rest.pop(0)] if rest and not rest[0].startswith("--") else []
                found += [argument, *(self.at(name, value) for value in values)]
        return found

    def at(self, name: str, value: Any) -> Any:
        """Return the new value of an argument, a group of arguments, or an argument's class (`model.class_path`)."""
        owner, _, last = name.rpartition(".")
        if owner in self.types and last in ("class_path", "help") and isinstance(value, str):
            return _Place(self.types[owner]).named(value)
        if name in self.types:
            return _loaded_alike(_Place(self.types[name]), value)
        below = {
            key.removeprefix(f"{name}."): declared for key, declared in self.types.items() if key.startswith(f"{name}.")
        }
        return _loaded_alike(_Arguments(below), value) if below else value


class _Sections(_Arguments):
    """The same for the sections of a config, in which options may have former names."""

    def __call__(self, values: Any) -> Any:
        """Return a mapping with class paths and present names; what is given is not changed."""
        return super().__call__(moved_options.in_config(values))


@dataclass(frozen=True)
class _Place:
    """Replaces short names by class paths in the value of one argument.

    Args:
        declared: declared type of the argument.
    """

    declared: Any

    def __call__(self, value: Any) -> Any:
        """Return a copy of a value with class paths."""
        if isinstance(value, str):
            text = _text_of_file(value)
            if text is None:
                return self.named(value, alone=True)
            short_names.expect(text, self)
            return value
        origins = [origin_of(each) for each in members(self.declared) if not is_plain(each)]
        if isinstance(value, list | tuple) and any(map(is_sequence, origins)):
            items = [self(item) for item in value]
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        if not isinstance(value, Mapping | Namespace):
            return value
        path = dict(_items(value)).get("class_path")
        if isinstance(path, str):
            return _changed(value, {"class_path": self.named(path)})
        if any(origin in MAPPINGS for origin in origins):
            return _changed(value, {key: self(item) for key, item in _items(value)})
        return value

    def named(self, name: str, *, alone: bool = False) -> str:
        """Return the class path of a name, or the name itself if it has none.

        Args:
            name: short name or class path.
            alone: whether it is the whole value, which may also fit another member of a union.

        Raises:
            UserError: there is no such plugin, or it cannot be used.
        """
        found = classes(self.declared, by_text=alone)
        try:
            return (short_names.resolved(found, name) if found else None) or name
        except UserError:
            if alone and any(map(is_plain, members(self.declared))):
                return name
            raise


def _loaded_alike(meaning: _Place | _Arguments, value: Any) -> Any:
    """Return a value with class paths, or register it if jsonargparse is going to load it as YAML or a file."""
    if not isinstance(value, str):
        return meaning(value)
    text = _text_of_file(value)
    try:
        loaded = value if text is not None or not value.strip() else jsonargparse.get_loader("yaml")(value)
    except yaml.YAMLError:
        loaded = value
    if text is not None or isinstance(loaded, dict | list):
        short_names.expect(value if text is None else text, meaning)
        return value
    return value if loaded is None else meaning(value)  # a number may be a name as well


def _text_of_file(value: str) -> str | None:
    """Return the text of the file named by a value, or None if there is none."""
    try:
        return Path(value).read_text() if Path(value).is_file() else None
    except (OSError, ValueError):  # the name is too long, or the file is not text
        return None


def _items(values: Any) -> list[tuple[Any, Any]]:
    return list((values if isinstance(values, Mapping) else vars(values)).items())


def _changed(values: Any, new: Mapping[Any, Any]) -> Any:
    """Return a mapping or namespace with new values, or itself if nothing changes."""
    old = dict(_items(values))
    if all(value is old[key] for key, value in new.items()):
        return values
    changed = copy.copy(values)
    (changed if isinstance(changed, dict) else vars(changed)).update(new)
    return changed
