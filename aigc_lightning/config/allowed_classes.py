"""What a config may have built: registered plugins, their own parts, and the classes of Lightning that are listed here.

Everything else in a config is data. A class is never built because a config names it, but because the place where the
name stands is declared to take such an object.
"""

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass

from aigc_lightning import plugins
from aigc_lightning.plugins.source import canonical, root_package

#: Classes whose arguments a config can give as plain values, by the paths that configs write; in docs/training.md, too.
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
#: Kinds of plugins that are classes.
_KINDS: tuple[plugins.Kind, ...] = ("model", "data", "callback")
_OWN_PACKAGE = "aigc_lightning"


@dataclass(frozen=True)
class Allowed:
    """What the configs of this process may name.

    Args:
        paths: of the classes, both where they are defined and where their packages offer them.
        packages: outermost packages of this framework and of the plugins that may be used.
    """

    paths: frozenset[str]
    packages: frozenset[str]

    @classmethod
    def now(cls) -> "Allowed":
        """Return what is allowed with the plugins that are installed and that `AIGC_PLUGINS` leaves."""
        usable = [plugin for kind in _KINDS for plugin in plugins.plugins(kind) if not plugin.refusal()]
        paths = {path for plugin in usable for path in (plugin.class_path, canonical(plugin.class_path))}
        for path in LISTED:
            paths |= {path, canonical(path)}
        roots = {root_package(plugin.module) for plugin in usable}
        denied = {root_package(plugin.module) for plugin in plugins.denied()}
        return cls(frozenset(paths), frozenset({_OWN_PACKAGE, *(roots - denied)}))

    def may_stand(self, found: type, declared: type) -> bool:
        """Return whether an object of a class may be built at a place of a declared type.

        Where a package of ours or of a plugin declares a type of its own, such as `Corruption`, the subclasses that the
        same package defines are its parts. Models, data and callbacks are plugins and have to be registered.

        Args:
            found: the class that a config names.
            declared: what the place takes, a class.
        """
        if declared not in found.__mro__:  # not `issubclass`, for which whatever can be called is a `Callable`
            return False
        if path_of(found) in self.paths or (found is declared and is_dataclass(declared)):
            return True
        package = self._package(declared)
        return package is not None and plugins.kind_of(declared) is None and package == self._package(found)

    def may_be_built(self, found: type) -> bool:
        """Return whether an object of a class may be built anywhere: the last check, which knows no place."""
        return path_of(found) in self.paths or is_dataclass(found) or self._package(found) is not None

    def _package(self, found: type) -> str | None:
        """Return which of the allowed packages defines a class, or None."""
        module = f"{found.__module__}."
        return next((package for package in self.packages if module.startswith(f"{package}.")), None)


def path_of(found: type) -> str:
    """Return the path of a class where it is defined."""
    return f"{found.__module__}.{found.__qualname__}"


def subclasses(declared: type) -> Iterator[type]:
    """Yield a class and all its subclasses that are imported."""
    yield declared
    children: list[type] = type.__subclasses__(declared)
    for child in children:
        yield from subclasses(child)
