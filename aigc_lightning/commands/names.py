"""Short names in configs, and what a config may import."""

from collections.abc import Iterable

import jsonargparse
from jsonargparse import _common, _typehints

from aigc_lightning import plugin_source, plugins
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule

_TRUSTED_PACKAGES = ("torch", "lightning", "pytorch_lightning", "torchvision", "torchmetrics", "aigc_lightning")


def enable_short_names() -> None:
    """Let class paths be short names, anywhere in a config or on the command line.

    jsonargparse looks a bare name up among the classes that happen to be imported. The entry points are asked first,
    by the kind of class that the place takes; the right class is then imported by its path.
    """
    if getattr(_typehints.resolve_class_path_by_name, "asks_plugins", False):
        return
    resolve_imported = _typehints.resolve_class_path_by_name

    def resolve(cls: type | tuple[type], name: str) -> str:
        kind = _kind(cls)
        if kind is None:
            return str(resolve_imported(cls, name))
        if "." in name.partition(":")[0]:
            known = plugins.find_by_class_path(kind, name)
            if known is not None:
                known.load()  # here, for an error that names the plugin, and for its version before its import
            return str(resolve_imported(cls, name))
        if kind == "callback" and not any(
            plugins.normalized(plugin.name) == plugins.normalized(name.rpartition(":")[2])
            for plugin in (*plugins.plugins(kind), *plugins.denied())
        ):
            return str(resolve_imported(cls, name))  # Lightning's callbacks keep their names
        plugin = plugins.find(kind, name)
        plugin.load()
        return plugin.class_path

    # The spec is one value that comes from the data, not a group of options.
    jsonargparse.set_parsing_settings(subclasses_enabled=[ImageSpec])
    resolve.asks_plugins = True  # type: ignore[attr-defined]
    _typehints.resolve_class_path_by_name = resolve


def restrict_imports(*, trusted: bool = False) -> None:
    """Let configs import from torch, Lightning, this package and installed plugins alone.

    What `AIGC_PLUGINS` leaves out stays out even of a trusted config.

    Args:
        trusted: whether configs may import everything else.
    """
    denied = _packages(plugins.denied()) - {*_TRUSTED_PACKAGES}
    _common.parsing_settings["import_path_verdicts"] = {}  # entries can be added, but not taken back
    if trusted:
        jsonargparse.set_parsing_settings(import_path_denylist=["jsonargparse", *sorted(denied)])
        return
    usable = (plugin for kind in plugins.GROUPS for plugin in plugins.plugins(kind) if not plugin.refusal())
    allowed = {*_TRUSTED_PACKAGES, *(_packages(usable) - denied)}
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*", *sorted(denied)], import_path_allowlist=sorted(allowed)
    )


def _packages(found: Iterable[plugins.Plugin]) -> set[str]:
    """Return the outermost packages of plugins that they share with no other distribution."""
    return {plugin_source.root_package(plugin.module) for plugin in found}


def _kind(cls: type | tuple[type]) -> plugins.Kind | None:
    from lightning.pytorch import Callback

    classes = cls if isinstance(cls, tuple) else (cls,)
    kinds: dict[type, plugins.Kind] = {ImageModel: "model", ImageDataModule: "data", Callback: "callback"}
    for base, kind in kinds.items():
        if any(isinstance(item, type) and issubclass(item, base) for item in classes):
            return kind
    return None
