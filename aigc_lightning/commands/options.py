"""The options that exist, for help and for suggestions."""

import inspect

from lightning.pytorch import Trainer

from aigc_lightning import plugins
from aigc_lightning.commands.arguments import SECTIONS
from aigc_lightning.errors import UserError


def option_names(stage: str) -> list[str]:
    """Return the dotted names of a stage's options and of every model's and data's own."""
    names = sorted(SECTIONS[stage])
    names += [f"trainer.{name}" for name in _parameters(Trainer)]
    for kind in ("model", "data"):
        for plugin in plugins.plugins("model" if kind == "model" else "data"):
            try:
                names += [f"{kind}.{name}" for name in _parameters(plugin.load())]
            except UserError:
                continue  # a broken plugin has no say in a suggestion
    for section, class_path in _GROUPS.items():
        module, _, name = class_path.rpartition(".")
        names += [f"{section}.{option}" for option in _parameters(getattr(__import__(module, fromlist=[name]), name))]
    return names


_GROUPS = {
    "engine": "aigc_lightning.core.adversarial.Engine",
    "grids": "aigc_lightning.callbacks.grids.Grids",
    "checkpoints": "aigc_lightning.callbacks.checkpoints.Checkpoints",
}


def _parameters(target: type) -> list[str]:
    return [name for name in inspect.signature(target).parameters if name != "spec"]
