"""Short names in configs, and the limits within which jsonargparse imports and builds what a config names.

`parser.Parser` writes class paths for short names before jsonargparse sees them; what they mean is decided here.

Two layers keep a config from running code. Before anything is built, `places.check` compares each value with the
declared type of its place. And here jsonargparse is told which paths it may import, that a class in a place without a
type is a value like any other, and to ask before it builds an object.
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
from aigc_lightning.plugins.source import canonical, root_package
from aigc_lightning.yaml_file import check_yaml

T = TypeVar("T")
Meaning = Callable[[Any], Any]

#: What to do about a config that asks for more than it may have.
TRUST = (
    "Leave it out (docs/training.md says what there is), or add --trust-config if you trust the config to run any code."
)


class _Limits:
    """What holds in this process; jsonargparse has one set of rules for all parsers, too."""

    allowed: Allowed | None = None  # None where a config is trusted
    installed = False
    expected: ClassVar[dict[str, list[Meaning]]] = {}  # of texts that jsonargparse is about to load


def allowed() -> Allowed | None:
    """Return what configs may name at present, None where they are trusted."""
    return _Limits.allowed


def limit(*, trusted: bool = False) -> None:
    """Set what the configs that are parsed from now on may import and build.

    What `AIGC_PLUGINS` leaves out stays out even of a trusted config.

    Args:
        trusted: whether configs may import everything else, and call it.
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
        config_read_mode_fsspec_enabled=False,  # a value is no reason to contact an address
    )


def _install() -> None:
    """Give jsonargparse our reader of YAML and our builder of objects, once."""
    if _Limits.installed:
        return
    _Limits.installed = True
    jsonargparse.add_instantiator(_built, object, prepend=True)
    load = jsonargparse.get_loader("yaml")

    def load_checked(text: str) -> Any:
        if ":" in text or "*" in text:  # else there is neither a key nor an alias
            check_yaml(text)
        return _meant(text, load(text))

    jsonargparse.set_loader("yaml", load_checked, exceptions=(yaml.YAMLError,))


def expect(text: str, meaning: Meaning) -> None:
    """Say what becomes of the values of a text when jsonargparse loads it.

    Args:
        text: the text of a file, or a value written as YAML.
        meaning: gives the values with class paths for short names; two that are equal do the same.
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
            f"Two places hold the same text ({line} ...), and its names mean something else at each.",
            "Write the class paths in full.",
        )
    return first


def _built(class_type: type[T], *args: Any, **kwargs: Any) -> T:
    """Build an object for jsonargparse, if configs may have objects of its class."""
    if _Limits.allowed is not None and not _Limits.allowed.may_be_built(class_type):
        raise UserError(f"The config asks for an object of the class {path_of(class_type)}.", TRUST)
    return class_type(*args, **kwargs)


def let_import(declared: Iterable[type]) -> None:
    """Let jsonargparse name the declared types of places: where a value names no class, it is of that type."""
    _let_import(*(path for each in declared for path in _offers(each)))


@cache
def _offers(declared: type) -> tuple[str, ...]:
    """Return the paths at which a class and the packages around it offer it; jsonargparse takes the shortest."""
    parts = declared.__module__.split(".")
    modules = [".".join(parts[: number + 1]) for number in range(len(parts))]
    name = declared.__qualname__
    found = [each for each in modules if getattr(sys.modules.get(each), name, None) is declared]
    return tuple(f"{module}.{name}" for module in found)


def resolved(classes: tuple[type, ...], name: str) -> str | None:
    """Return the path of the class that a name means at a place; None where it means nothing here.

    Args:
        classes: of which the place takes an object.
        name: short name or class path.

    Raises:
        UserError: there is no such plugin, or it cannot be used.
    """
    kind = next((kind for kind in map(plugins.kind_of, classes) if kind is not None), None)
    plugin = _plugin(kind, name) if kind is not None else None
    if plugin is not None:
        found = plugin.load()  # here, for an error that names the plugin, and for its version before its import
        _let_import(plugin.class_path, path_of(found))
        return plugin.class_path
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
    """Return the path of a declared type or of a part that its package defines, and let it be imported."""
    for declared, found in ((each, found) for each in classes for found in _named(each, name)):
        if found is declared or allowed.may_stand(found, declared):  # the type itself, for what is said about it
            _let_import(path_of(found))
            return path_of(found)
    return None


def _named(declared: type, name: str) -> Iterator[type]:
    """Yield the imported subclasses of a type that a name may mean; a config imports no module of its choice."""
    if isinstance(declared, type):
        for found in subclasses(declared):
            if name in (found.__name__, path_of(found)) or _is_offered_at(found, name):
                yield found


def _is_offered_at(found: type, path: str) -> bool:
    return path.endswith(f".{found.__name__}") and canonical(path) == path_of(found)


def _let_import(*paths: str) -> None:
    if _Limits.allowed is not None:
        jsonargparse.set_parsing_settings(import_path_allowlist=list(dict.fromkeys(paths)))
