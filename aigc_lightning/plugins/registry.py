"""Models, data, presets, callbacks, commands, editors and operations by name, from this package and from third parties.

A plugin is a Python package with entry points in the groups below; an entry point names the class itself. The built-in
plugins are registered in the same way. A listing imports neither torch nor any plugin.
"""

import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path

from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.plugins import model_file
from aigc_lightning.plugins.entry import BUILTIN, GROUPS, Kind, Plugin, normalized
from aigc_lightning.plugins.source import canonical, forget_source, preset_folder

#: Comma-separated distributions to use (`a,b`) or to exclude (`-a`); read before anything is imported.
ALLOW_VARIABLE = "AIGC_PLUGINS"


def plugins(kind: Kind) -> tuple[Plugin, ...]:
    """Return all plugins of a kind that `AIGC_PLUGINS` allows, the built-in ones first, then by name.

    Models of files that the user has named come last; see `register_model_file`.
    """
    found = (plugin for plugin in _installed() if plugin.kind == kind and _is_allowed(plugin.distribution))
    return (*found, *(model_file.models() if kind == "model" else ()))


def register_model_file(text: str) -> Plugin:
    """Register a model of a Python file, such as "my_file.py:MyGAN", for the rest of this process.

    The file is code, which runs when the model is used: name only files that you trust.

    Raises:
        UserError: there is no such file or class, or the file is not Python.
    """
    plugin = model_file.add(text)
    forget_source()
    return plugin


def denied() -> tuple[Plugin, ...]:
    """Return all plugins that `AIGC_PLUGINS` excludes."""
    return tuple(plugin for plugin in _installed() if not _is_allowed(plugin.distribution))


def find(kind: Kind, name: str) -> Plugin:
    """Return the plugin that a user means by a name or by `distribution:name`.

    Raises:
        UserError: nothing has this name, or several packages have it.
    """
    matches = [plugin for plugin in plugins(kind) if _is_called(name, plugin.name, plugin.distribution)]
    if not matches:
        left_out = [plugin for plugin in denied() if plugin.kind == kind]
        if any(_is_called(name, plugin.name, plugin.distribution) for plugin in left_out):
            raise UserError(f"{ALLOW_VARIABLE} excludes the {kind} {name!r}.", f"Change {ALLOW_VARIABLE} to use it.")
        hint = did_you_mean(name.rpartition(":")[2], [plugin.name for plugin in plugins(kind)])
        raise UserError(f"There is no {kind} named {name!r}.", hint or f"See: aigc {_list(kind)}")
    if matches[0].is_builtin or len(matches) == 1:
        return matches[0]
    written = " or ".join(plugin.full_name for plugin in matches)
    raise UserError(f"Several packages provide a {kind} named {name!r}.", f"Use {written}.")


def find_by_class_path(kind: Kind, class_path: str) -> Plugin | None:
    """Return the plugin with this class, by the path where it is defined or re-exported, or None."""
    exact = next((plugin for plugin in plugins(kind) if plugin.class_path == class_path), None)
    if exact is not None or not any(
        plugin.module.partition(".")[0] == class_path.partition(".")[0] for plugin in plugins(kind)
    ):
        return exact
    where = canonical(class_path)
    return next((plugin for plugin in plugins(kind) if canonical(plugin.class_path) == where), None)


def clashing(plugin: Plugin) -> tuple[Plugin, ...]:
    """Return the other plugins that a plugin's bare name could be confused with."""
    same = (other for other in plugins(plugin.kind) if normalized(other.name) == normalized(plugin.name))
    return () if plugin.is_builtin else tuple(other for other in same if other != plugin)


def presets() -> Iterator[tuple[str, str, Path]]:
    """Yield (name, distribution, file) of every config that an installed package provides."""
    for plugin in plugins("config"):
        for path in preset_files(plugin):
            yield path.stem, plugin.distribution, path


def preset_files(plugin: Plugin) -> list[Path]:
    """Return the configs of a presets entry point."""
    folder = preset_folder(plugin.value)
    return sorted(folder.glob("*.yaml")) if folder else []


def presets_of(plugin: Plugin) -> list[tuple[str, str, Path]]:
    """Return the presets that use a plugin as their model or data."""
    return [preset for preset in presets() if plugin.kind in ("model", "data") and uses(preset[2], plugin)]


def find_preset(name: str) -> Path:
    """Return the file of the config that a user means by a name or by `distribution:name`.

    Raises:
        UserError: nothing has this name, or several packages have it.
    """
    matches = [(owner, path) for stem, owner, path in presets() if _is_called(name, stem, owner)]
    bare = name.rpartition(":")[2]
    if not matches:
        hint = did_you_mean(bare, [stem for stem, _, _ in presets()]) or "See: aigc configs"
        raise UserError(f"There is no config file or preset {name!r}.", hint)
    if matches[0][0] == BUILTIN or len(matches) == 1:
        return matches[0][1]
    written = " or ".join(f"{owner}:{bare}" for owner, _ in matches)
    raise UserError(f"Several packages provide a preset named {name!r}.", f"Use {written}.")


def unknown_in_allow_variable() -> list[str]:
    """Return the names in `AIGC_PLUGINS` that no installed plugin package has."""
    installed = {plugin.distribution for plugin in _installed()}
    return [name for name in _allow_list() if name.removeprefix("-") not in installed]


@cache
def _installed() -> tuple[Plugin, ...]:
    kinds = {group: kind for kind, group in GROUPS.items()}
    found = {_plugin(kinds[point.group], point) for point in _points() if point.group in kinds}
    return tuple(sorted(found, key=lambda plugin: (not plugin.is_builtin, plugin.name, plugin.distribution)))


def _points() -> Iterator[EntryPoint]:
    try:
        found = entry_points()
        for group in GROUPS.values():
            yield from found.select(group=group)
        return
    except Exception:  # one package with unreadable metadata would hide all others
        pass
    seen: set[str] = set()
    for distribution in distributions():
        try:
            name = normalized(distribution.metadata["Name"])
            points = () if name in seen else tuple(distribution.entry_points)
        except Exception:
            continue
        seen.add(name)
        yield from points


def _plugin(kind: Kind, point: EntryPoint) -> Plugin:
    value = point.value.replace(" ", "").partition("[")[0]
    try:
        assert point.dist is not None
        name, version, needs = _about(point.dist)
    except Exception:  # half-removed packages have no metadata
        return Plugin(kind, point.name, "unknown", "", value)
    return Plugin(kind, point.name, name, version, value, needs)


@cache  # once for each package, not for each of its plugins: reading takes most of the time of a listing
def _about(distribution: Distribution) -> tuple[str, str, tuple[str, ...]]:
    """Return a package's name, its version, and its requirements on this package."""
    metadata = distribution.metadata
    name, needs = normalized(metadata["Name"]), metadata.get_all("Requires-Dist") or ()
    ours = (text for text in needs if normalized(re.split(r"[^\w.-]", text.strip())[0]) == BUILTIN)
    return name, metadata["Version"] or "", () if name == BUILTIN else tuple(ours)


def uses(path: Path, plugin: Plugin) -> bool:
    """Return whether a config file has a plugin as its model or data."""
    from aigc_lightning.yaml_file import read_yaml  # few commands read presets

    try:
        section = read_yaml(path)[plugin.kind]
        name = str(section if isinstance(section, str) else section["class_path"])
        named = find_by_class_path(plugin.kind, name) if "." in name.partition(":")[0] else find(plugin.kind, name)
    except (ValueError, LookupError, TypeError):
        return False
    return named == plugin


def _is_called(wanted: str, name: str, distribution: str) -> bool:
    owner, colon, bare = wanted.rpartition(":")
    return normalized(name) == normalized(bare) and (not colon or normalized(distribution) == normalized(owner))


def _allow_list() -> list[str]:
    names = (name.strip() for name in os.environ.get(ALLOW_VARIABLE, "").split(","))
    return [("-" if name[0] == "-" else "") + normalized(name.lstrip("-")) for name in names if name]


def _is_allowed(distribution: str) -> bool:
    names = _allow_list()
    allowed = {name for name in names if not name.startswith("-")}
    return distribution == BUILTIN or (f"-{distribution}" not in names and (not allowed or distribution in allowed))


def _list(kind: Kind) -> str:
    return {"model": "models", "data": "data", "config": "configs", "command": "--help"}.get(
        kind, f"plugins list {kind}"
    )


def forget() -> None:
    """Clear the cache, so that the next query sees newly installed packages; for tests and installers."""
    _installed.cache_clear()
    forget_source()
    sys.path_importer_cache.clear()
