"""Models, data, presets, callbacks and commands by name, from this package and from anybody's.

A plugin is a Python package with entry points in the groups below; an entry point names the class itself. The built-in
models take the same road. Standard library only: a listing imports neither torch nor any plugin.
"""

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from aigc_lightning.errors import UserError, did_you_mean

Kind = Literal["model", "data", "config", "callback", "command"]
GROUPS: dict[Kind, str] = {
    "model": "aigc_lightning.models",
    "data": "aigc_lightning.data",
    "config": "aigc_lightning.configs",
    "callback": "aigc_lightning.callbacks",
    "command": "aigc_lightning.commands",
}
#: The distribution whose names are never taken over by another.
BUILTIN = "aigc-lightning"
#: Comma-separated distributions to use (`a,b`) or to leave out (`-a`); read before anything is imported.
ALLOW_VARIABLE = "AIGC_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Args:
        kind: what it gives.
        name: its short name.
        distribution: the package that brings it, normalised.
        version: of that package.
        value: `module:attribute`, or a package for presets.
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    value: str

    @property
    def is_builtin(self) -> bool:
        """Whether it is part of aigc_lightning itself."""
        return self.distribution == BUILTIN

    @property
    def class_path(self) -> str:
        """The dotted path of the class, as configs write it."""
        return self.value.replace(":", ".")

    def load(self) -> Any:
        """Import and return the class or function.

        Raises:
            UserError: the plugin cannot be imported; the cause is in the message.
        """
        module, _, attribute = self.value.partition(":")
        try:
            target = import_module(module)
            for part in attribute.split("."):
                target = getattr(target, part)
        except Exception as error:  # whatever a plugin does wrong, the rest goes on
            raise UserError(
                f"The {self.kind} {self.name!r} of {self.distribution} {self.version} cannot be loaded: "
                f"{type(error).__name__}: {error}",
                f"Update or remove {self.distribution}; everything else works without it.",
            ) from error
        return target

    def summary(self) -> str:
        """Return the first line of its docstring, read from the source without importing anything, or ""."""
        module, _, attribute = self.value.partition(":")
        path = _source_file(module)
        if path is None:
            return ""
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return ""
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return ""


def normalized(name: str) -> str:
    """Return a name as it is compared: lower case, `-` for `_`."""
    return name.strip().lower().replace("_", "-")


@cache
def plugins(kind: Kind) -> tuple[Plugin, ...]:
    """Return all plugins of a kind, the built-in ones first, then by name."""
    found = {_plugin(kind, point) for point in entry_points(group=GROUPS[kind])}
    allowed = (plugin for plugin in found if _is_allowed(plugin.distribution))
    return tuple(sorted(allowed, key=lambda plugin: (not plugin.is_builtin, plugin.name, plugin.distribution)))


def find(kind: Kind, name: str) -> Plugin:
    """Return the plugin that a user means by a name or by `distribution:name`.

    Raises:
        UserError: nothing has this name, or several packages have it.
    """
    distribution, colon, bare = name.rpartition(":")
    matches = [
        plugin
        for plugin in plugins(kind)
        if normalized(plugin.name) == normalized(bare)
        and (not colon or normalized(plugin.distribution) == normalized(distribution))
    ]
    if not matches:
        known = [plugin.name for plugin in plugins(kind)]
        raise UserError(f"There is no {kind} called {name!r}.", did_you_mean(bare, known) or f"See: aigc {_list(kind)}")
    if matches[0].is_builtin or len(matches) == 1:
        return matches[0]
    written = " or ".join(f"{plugin.distribution}:{plugin.name}" for plugin in matches)
    raise UserError(f"Several packages bring a {kind} called {name!r}.", f"Write {written}.")


def find_by_class_path(kind: Kind, class_path: str) -> Plugin | None:
    """Return the plugin that names this class, or None."""
    return next((plugin for plugin in plugins(kind) if plugin.class_path == class_path), None)


def presets() -> Iterator[tuple[str, str, Path]]:
    """Yield (name, distribution, file) of every config that an installed package brings."""
    for plugin in plugins("config"):
        folder = _preset_folder(plugin.value)
        if folder is not None:
            for path in sorted(folder.glob("*.yaml")):
                yield path.stem, plugin.distribution, path


def find_preset(name: str) -> Path:
    """Return the file of the config that a user means by a name or by `distribution:name`.

    Raises:
        UserError: nothing has this name, or several packages have it.
    """
    distribution, colon, bare = name.rpartition(":")
    matches = [
        (owner, path)
        for stem, owner, path in presets()
        if normalized(stem) == normalized(bare) and (not colon or normalized(owner) == normalized(distribution))
    ]
    if not matches:
        hint = did_you_mean(bare, [stem for stem, _, _ in presets()]) or "See: aigc configs"
        raise UserError(f"There is no config file or preset {name!r}.", hint)
    if matches[0][0] == BUILTIN or len(matches) == 1:
        return matches[0][1]
    written = " or ".join(f"{owner}:{bare}" for owner, _ in matches)
    raise UserError(f"Several packages bring a preset called {name!r}.", f"Write {written}.")


def _plugin(kind: Kind, point: EntryPoint) -> Plugin:
    distribution = normalized(point.dist.name) if point.dist else "unknown"
    version = point.dist.version if point.dist else ""
    return Plugin(kind, point.name, distribution, version, point.value.replace(" ", "").partition("[")[0])


def _is_allowed(distribution: str) -> bool:
    names = [normalized(name) for name in os.environ.get(ALLOW_VARIABLE, "").split(",") if name.strip()]
    denied = {name[1:] for name in names if name.startswith("-")}
    allowed = {name for name in names if not name.startswith("-")}
    return distribution == BUILTIN or (distribution not in denied and (not allowed or distribution in allowed))


def _source_file(module: str) -> Path | None:
    """Return the source of a module without importing its parents, which is what `find_spec` would do."""
    top, *rest = module.split(".")
    spec = find_spec(top) if top not in sys.modules else PathFinder.find_spec(top) or sys.modules[top].__spec__
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for location in spec.submodule_search_locations or ():
        base = Path(location).joinpath(*rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _preset_folder(package: str) -> Path | None:
    """Return the folder `configs` of a package: inside it when installed, beside it in a source checkout."""
    top, *rest = package.split(".")
    spec = PathFinder.find_spec(top) or find_spec(top)
    for location in (spec.submodule_search_locations if spec else None) or ():
        root = Path(location)
        for folder in (root.joinpath(*rest), root.parent.joinpath(*rest), root.parent.parent.joinpath(*rest)):
            if rest and folder.is_dir():
                return folder
    return None


def _list(kind: Kind) -> str:
    return {"model": "models", "data": "data", "config": "configs", "command": "--help"}.get(
        kind, f"plugins list {kind}"
    )
