"""The options of each stage, for help and for suggestions."""

import inspect
import sys

from lightning.pytorch import Trainer

from aigc_lightning import plugins
from aigc_lightning.config.request import SECTIONS
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.source import definition


def option_names(stage: str) -> list[str]:
    """Return the dotted names of a stage's options, including those of every registered model and dataset."""
    names = stage_options(stage)
    for kind in ("model", "data"):
        for plugin in plugins.plugins("model" if kind == "model" else "data"):
            names += [f"{kind}.{name}" for name in _plugin_parameters(plugin)]
    return names


def stage_options(stage: str) -> list[str]:
    """Return the dotted names of a stage's options that do not depend on the model or data."""
    names = sorted(SECTIONS[stage])
    names += [f"trainer.{name}" for name in parameters(Trainer)]
    for section, class_path in _GROUPS.items():
        module, _, name = class_path.rpartition(".")
        names += [f"{section}.{option}" for option in parameters(getattr(__import__(module, fromlist=[name]), name))]
    return names


def parameters(target: type) -> list[str]:
    """Return the names of a class's arguments that a config can set: all but `spec`."""
    return [name for name in inspect.signature(target).parameters if name != "spec"]


_GROUPS = {
    "ema": "aigc_lightning.core.ema.Ema",
    "privacy": "aigc_lightning.core.privacy.settings.Privacy",
    "distill": "aigc_lightning.callbacks.distillation.Distillation",
    "engine": "aigc_lightning.core.engine.settings.Engine",
    "grids": "aigc_lightning.callbacks.grids.Grids",
    "checkpoints": "aigc_lightning.callbacks.checkpoints.Checkpoints",
}


def _plugin_parameters(plugin: plugins.Plugin) -> list[str]:
    """Return a plugin's argument names; a plugin that has not been imported is not imported to suggest a spelling."""
    if plugin.is_builtin or plugin.module in sys.modules:
        try:
            return parameters(plugin.load())
        except UserError:
            return []  # a broken plugin must not break the error message
    found = definition(plugin.value)
    return [name for name in found.parameters if name != "spec"] if found else []
