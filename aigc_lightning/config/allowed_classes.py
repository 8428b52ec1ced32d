"""The classes that a config may instantiate: registered plugins, their components, and those in `LISTED`.

Everything else in a config is data. A class is only instantiated where an argument is declared to take such an object,
never just because a config names it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass

from aigc_lightning import plugins
from aigc_lightning.plugins.source import canonical, root_package

#: Classes whose arguments a config can give as plain values, by class path; listed in docs/training.md.
LISTED = (
    "lightning.pytorch.callbacks.DeviceStatsMonitor",
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.callbacks.LearningRateMonitor",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.callbacks.RichModelSummary",
    "lightning.pytorch.callbacks.StochasticWeightAveraging",
    "lightning.pytorch.profilers.AdvancedProfiler",
    "lightning.pytorch.profilers.PyTorchProfiler",
    "lightning.pytorch.profilers.SimpleProfiler",
    "lightning.pytorch.strategies.DDPStrategy",
    "aigc_lightning.core.engine.distributed.PlayersStrategy",
    "aigc_lightning.testing.noise.NoiseImages",
    "aigc_lightning.testing.stopping.StopBySignal",
)
#: Plugin kinds whose entry points are classes.
_KINDS: tuple[plugins.Kind, ...] = ("model", "data", "callback")
_OWN_PACKAGE = "aigc_lightning"


@dataclass(frozen=True)
class Allowed:
    """The classes that configs in this process may name.

    Args:
        paths: class paths, both where classes are defined and where packages re-export them.
        packages: top-level packages of this framework and of the usable plugins.
    """

    paths: frozenset[str]
    packages: frozenset[str]

    @classmethod
    def now(cls) -> "Allowed":
        """Return what is allowed given the installed plugins and `AIGC_PLUGINS`."""
        usable = [plugin for kind in _KINDS for plugin in plugins.plugins(kind) if not plugin.refusal()]
        paths = {path for plugin in usable for path in (plugin.class_path, canonical(plugin.class_path))}
        for path in LISTED:
            paths |= {path, canonical(path)}
        roots = {root_package(plugin.module) for plugin in usable}
        denied = {root_package(plugin.module) for plugin in plugins.denied()}
        return cls(frozenset(paths), frozenset({_OWN_PACKAGE, *(roots - denied)}))

    def allows(self, found: type, declared: type) -> bool:
        """Return whether an instance of a class is allowed for an argument of a declared type.

        If this framework or a plugin declares an argument with a type of its own, such as `Corruption`, subclasses
        defined in the same package are allowed. Models, data and callbacks are plugins and must be registered.

        Args:
            found: the class named by a config.
            declared: the declared type of the argument.
        """
        if declared not in found.__mro__:  # not `issubclass`, for which anything callable is a `Callable`
            return False
        if path_of(found) in self.paths or (found is declared and is_dataclass(declared)):
            return True
        package = self._package(declared)
        return package is not None and plugins.kind_of(declared) is None and package == self._package(found)

    def may_instantiate(self, found: type) -> bool:
        """Return whether a class may be instantiated for any argument: the last check, made without knowing which."""
        return path_of(found) in self.paths or is_dataclass(found) or self._package(found) is not None

    def _package(self, found: type) -> str | None:
        """Return the allowed package that defines a class, or None."""
        module = f"{found.__module__}."
        return next((package for package in self.packages if module.startswith(f"{package}.")), None)


def path_of(found: type) -> str:
    """Return the class path at which a class is defined."""
    return f"{found.__module__}.{found.__qualname__}"


def imported_class(path: object) -> type | None:
    """Return the class of a path if its module has been imported, or None."""
    module, _, name = str(path).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def subclasses(declared: type) -> Iterator[type]:
    """Yield a class and all its imported subclasses."""
    yield declared
    children: list[type] = type.__subclasses__(declared)
    for child in children:
        yield from subclasses(child)
