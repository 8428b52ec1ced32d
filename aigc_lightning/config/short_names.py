"""Short names in configs, and limits on what jsonargparse may import and instantiate.

`parser.Parser` replaces short names by class paths before jsonargparse sees them; the names are resolved here.

Two layers keep a config from running code. Before anything is instantiated, `places.check` compares each value with the
declared type of its argument. And here jsonargparse is told which paths it may import, not to instantiate classes for
arguments without a type, and to ask before it instantiates a class.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, ClassVar, TypeVar

import jsonargparse
import yaml

from aigc_lightning import plugins
from aigc_lightning.compat import forget_import_paths
from aigc_lightning.config.allowed_classes import LISTED, Allowed, path_of, subclasses
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.plugins.model_file import from_file, is_model_file, missing
from aigc_lightning.plugins.source import canonical, root_package
from aigc_lightning.yaml_file import check_yaml

T = TypeVar("T")
Meaning = Callable[[Any], Any]

#: Hint for a config that names something it may not.
TRUST = "Leave it out (see docs/training.md), or add --trust-config if you trust the config to run any code."


class _Limits:
    """The limits of this process; jsonargparse's settings apply to all parsers as well."""

    allowed: Allowed | None = None  # None if configs are trusted
    installed = False
    expected: ClassVar[dict[str, list[Meaning]]] = {}  # by text that jsonargparse is about to load


def allowed() -> Allowed | None:
    """Return what configs may currently name, or None if they are trusted."""
    return _Limits.allowed


def limit(*, trusted: bool = False) -> None:
    """Set what configs may import and instantiate from now on.

    Plugins excluded by `AIGC_PLUGINS` are excluded even from trusted configs.

    Args:
        trusted: whether configs may import and call everything else.
    """
    _install()
    _Limits.allowed = None if trusted else Allowed.now()
    forget_import_paths()
    _Limits.expected = {}
    denied = {root_package(plugin.module) for plugin in plugins.denied()} - {"aigc_lightning"}
    everything = [] if trusted else ["*"]
    jsonargparse.set_parsing_settings(
        import_path_denylist=["jsonargparse", *everything, *sorted(denied)],
        import_path_allowlist=sorted(_Limits.allowed.paths) if _Limits.allowed else [],
        instantiate_subclass_spec_in_any=trusted,
        config_read_mode_fsspec_enabled=False,  # reading a config must not contact an address
    )


def _install() -> None:
    """Install our YAML loader and our instantiator in jsonargparse, once."""
    if _Limits.installed:
        return
    _Limits.installed = True
    jsonargparse.add_instantiator(_built, object, prepend=True)
    load = jsonargparse.get_loader("yaml")

    def load_checked(text: str) -> Any:
        if ":" in text or "*" in text:  # otherwise it has no keys or aliases
            check_yaml(text)
        return _meant(text, load(text))

    jsonargparse.set_loader("yaml", load_checked, exceptions=(yaml.YAMLError,))


def expect(text: str, meaning: Meaning) -> None:
    """Register a function to apply to the values of a text when jsonargparse loads it.

    Args:
        text: the text of a file, or a value written as YAML.
        meaning: replaces short names by class paths in the values; equal ones are registered once.
    """
    meanings = _Limits.expected.setdefault(text, [])
    if meaning not in meanings:
        meanings.append(meaning)


def _meant(text: str, values: Any) -> Any:
    meanings = _Limits.expected.get(text)
    if not meanings or not isinstance(values, dict | list):
        return values
    first, *others = [meaning(values) for meaning in meanings]
    if any(other != first for other in others):
        line = text.strip().splitlines()[0]
        raise UserError(
            f"The same text ({line} ...) is used in two places where its names mean different things.",
            "Write the class paths in full.",
        )
    return first


def _built(class_type: type[T], *args: Any, **kwargs: Any) -> T:
    """Instantiate a class for jsonargparse, if configs may do so."""
    if _Limits.allowed is not None and not _Limits.allowed.may_instantiate(class_type):
        raise UserError(f"The config asks for an instance of the class {path_of(class_type)}.", TRUST)
    return class_type(*args, **kwargs)


def let_import(declared: Iterable[type]) -> None:
    """Let jsonargparse import the declared types of arguments: a value that names no class is of that type."""
    _let_import(*(path for each in declared for path in _import_paths(each)))


@cache
def _import_paths(declared: type) -> tuple[str, ...]:
    """Return the paths at which a class's module and its parent packages provide it; jsonargparse uses the shortest."""
    parts = declared.__module__.split(".")
    modules = [".".join(parts[: number + 1]) for number in range(len(parts))]
    name = declared.__qualname__
    found = [each for each in modules if getattr(sys.modules.get(each), name, None) is declared]
    return tuple(f"{module}.{name}" for module in found)


def resolved(classes: tuple[type, ...], name: str) -> str | None:
    """Return the class path that a name stands for in an argument, or None if it stands for none.

    Args:
        classes: the classes whose instances the argument takes.
        name: short name or class path.

    Raises:
        UserError: there is no such plugin, or it cannot be used.
    """
    kind = next((kind for kind in map(plugins.kind_of, classes) if kind is not None), None)
    plugin = _plugin(kind, name) if kind is not None else None
    if plugin is not None:
        found = plugin.load()  # here, so that errors name the plugin and its API version is checked before its import
        _let_import(plugin.class_path, path_of(found))
        return plugin.class_path
    if kind == "model" and is_model_file(name):
        hint = f"If you trust the file, write on the command line: --model {name}"
        raise UserError(f"The config names the file {name}, which is code.", hint)
    if kind == "model" and from_file(name):
        what, hint = missing(name)
        raise UserError(f"The config names {what}.", hint)
    if _Limits.allowed is None:
        return None
    own = _part(classes, name, _Limits.allowed)
    listed = next((path for path in LISTED if path.rpartition(".")[2] == name), None)
    if kind == "callback" and own is None and listed is None and "." not in name:
        known = [each.name for each in plugins.plugins("callback")]
        known += [path.rpartition(".")[2] for path in LISTED if ".callbacks." in path]
        near = did_you_mean(name, known)
        raise UserError(
            f"There is no callback {name!r} that a config may name.", near if near.startswith("Did") else TRUST
        )
    return own or listed


def _plugin(kind: plugins.Kind, name: str) -> plugins.Plugin | None:
    if "." in name.partition(":")[0]:
        return plugins.find_by_class_path(kind, name)
    known = [plugins.normalized(plugin.name) for plugin in (*plugins.plugins(kind), *plugins.denied())]
    if kind == "callback" and plugins.normalized(name.rpartition(":")[2]) not in known:
        return None  # Lightning's callbacks keep their names
    return plugins.find(kind, name)


def _part(classes: tuple[type, ...], name: str, allowed: Allowed) -> str | None:
    """Return the path of a declared type or of a subclass from its package, and let it be imported."""
    for declared, found in ((each, found) for each in classes for found in _named(each, name)):
        if found is declared or allowed.allows(found, declared):  # the type itself, for a better message later
            _let_import(path_of(found))
            return path_of(found)
    return None


def _named(declared: type, name: str) -> Iterator[type]:
    """Yield the imported subclasses of a type that a name may stand for; a config cannot import arbitrary modules."""
    if isinstance(declared, type):
        for found in subclasses(declared):
            if name in (found.__name__, path_of(found)) or _is_reexported_at(found, name):
                yield found


def _is_reexported_at(found: type, path: str) -> bool:
    return path.endswith(f".{found.__name__}") and canonical(path) == path_of(found)


def _let_import(*paths: str) -> None:
    if _Limits.allowed is not None:
        jsonargparse.set_parsing_settings(import_path_allowlist=list(dict.fromkeys(paths)))
