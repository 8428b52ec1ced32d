"""The command that other commands suggest as the next step; it works when pasted as it is."""

from pathlib import Path

from aigc_lightning import plugins
from aigc_lightning.config.allowed_classes import path_of
from aigc_lightning.core.capabilities import makes_images
from aigc_lightning.plugins.model_file import option_of
from aigc_lightning.shell import command


def sampling(model: object, source: Path) -> str | None:
    """Return the command that samples from a model, or None if the model cannot generate images.

    Args:
        model: the trained or exported model.
        source: the run or file with its weights.
    """
    class_path = path_of(type(model))
    if not makes_images(model) or plugins.find_by_class_path("model", class_path) is None:
        return None
    return command("aigc", "sample", source, "--seeds", "0-15", "--out", "samples", "--grid", *option_of(class_path))
