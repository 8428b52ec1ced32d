"""The options that exist, for help and for suggestions."""

import inspect
import sys

from lightning.pytorch import Trainer

from aigc_lightning import plugins
from aigc_lightning.config.request import SECTIONS
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.source import definition


def option_names(stage: str) -> list[str]:
    """Return the dotted names of a stage's options and of every model's and data's own."""
    names = sorted(SECTIONS[stage])
    names += [f"trainer.{name}" for name in _parameters(Trainer)]
    for kind in ("model", "data"):
        for plugin in plugins.plugins("model" if kind == "model" else "data"):
            names += [f"{kind}.{name}" for name in _plugin_parameters(plugin)]
    for section, class_path in _GROUPS.items():
        module, _, name = class_path.rpartition(".")
        names += [f"{section}.{option}" for option in _parameters(getattr(__import__(module, fromlist=[name]), name))]
    return names


_GROUPS = {
    "ema": "aigc_lightning.core.ema.Ema",
    "engine": "aigc_lightning.core.engine.settings.Engine",
    "grids": "aigc_lightning.callbacks.grids.Grids",
    "checkpoints": "aigc_lightning.callbacks.checkpoints.Checkpoints",
}


def _plugin_parameters(plugin: plugins.Plugin) -> list[str]:
    """Return the names of a class's own arguments; a slip of the user imports no plugin that was not in use."""
    if plugin.is_builtin or plugin.module in sys.modules:
        try:
            return _parameters(plugin.load())
        except UserError:
            return []  # a broken plugin has no say in a suggestion
    found = definition(plugin.value)
    return [name for name in found.parameters if name != "spec"] if found else []


def _parameters(target: type) -> list[str]:
    return [name for name in inspect.signature(target).parameters if name != "spec"]
