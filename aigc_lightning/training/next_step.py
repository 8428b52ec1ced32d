"""The command that a command suggests at its end: one that works as it stands."""

from pathlib import Path

from aigc_lightning import plugins
from aigc_lightning.config.allowed_classes import path_of
from aigc_lightning.core.capabilities import Generator
from aigc_lightning.shell import command


def sampling(model: object, source: Path) -> str | None:
    """Return the command that draws pictures from a model, or None where it would draw none.

    Args:
        model: what was trained or exported.
        source: the run or the file that holds it.
    """
    if not isinstance(model, Generator) or plugins.find_by_class_path("model", path_of(type(model))) is None:
        return None
    return command("aigc", "sample", source, "--seeds", "0-15", "--out", "samples", "--grid")
