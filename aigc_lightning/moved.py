"""New locations of modules of version 0.1, which configs, records and plugins may still name. Standard library only.

Classes are found under their old paths, and old modules can be imported as aliases of the new ones.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # what Python asks of a loader is defined below, and importlib.abc is slow to import

_ROOT = "aigc_lightning."
#: Old to new, without the package: modules whose classes appear in configs and records, and documented ones.
_MOVED = {
    "callbacks.losses": "callbacks.loss_log",
    "callbacks.scores": "callbacks.held_out_scores",
    "commands.edit_files": "inference.edit_paths",
    "commands.generating": "inference.loaded_model",
    "commands.parsing": "config.command_line",
    "core.augmentation": "core.engine.augmentation",
    "core.checksums": "core.io.checksums",
    "core.distributed": "core.engine.distributed",
    "core.escape": "core.io.escape",
    "core.files": "core.io.atomic",
    "core.film": "core.io.film",
    "core.image_pool": "core.engine.image_pool",
    "core.output": "core.io.output",
    "core.pictures": "core.io.pictures",
    "core.precision": "core.engine.autocast",
    "core.schedules": "core.engine.schedules",
    "core.untrusted": "core.io.untrusted",
    "data.captioned_images": "data.folders.captioned_images",
    "data.digits": "data.sets.digits",
    "data.image_folder": "data.folders.image_folder",
    "data.paired_images": "data.folders.paired_images",
    "data.photos": "data.sets.photos",
    "data.shapes": "data.sets.shapes",
    "data.torchvision_sets": "data.sets.torchvision_sets",
    "data.unpaired_images": "data.folders.unpaired_images",
}
#: Names that changed with their modules.
_RENAMED = {"UsedModel": "LoadedModel"}


def new_path(path: str) -> str:
    """Return the current dotted path of a module, or of something in one."""
    if not path.startswith(_ROOT):
        return path
    module, _, name = path.removeprefix(_ROOT).rpartition(".")
    if module in _MOVED:
        return f"{_ROOT}{_MOVED[module]}.{_RENAMED.get(name, name)}"
    whole = path.removeprefix(_ROOT)
    return _ROOT + _MOVED.get(whole, whole)


class _OldModule(ModuleType):
    """An alias of the module that replaced it."""

    def __getattr__(self, name: str) -> Any:
        """Return the object of this name, which may have been renamed, from the new module."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(new_path(self.__name__)), _RENAMED.get(name, name))


class _OldModules(Loader):
    """Finds modules by their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an alias of the new module; None for other names."""
        return ModuleSpec(fullname, self) if new_path(fullname) != fullname else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are looked up on access."""


def install() -> None:
    """Make old module names importable."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())
