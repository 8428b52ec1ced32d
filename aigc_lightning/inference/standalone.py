"""Editors that packages provide ready for use: methods without weights, and files of other people's networks.

An entry point in the group `aigc_lightning.editors` names a class. One whose name begins with a dot, such as `.pth`,
opens files with that suffix and is built with the path and the device; the others are built with the device alone.
"""

from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from aigc_lightning import plugins
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.inference.loaded_model import chosen_device


class PictureModel(Protocol):
    """What edits pictures: a model that is an `Editor`, or a standalone editor."""

    @property
    def spec(self) -> ImageSpec:
        """The channels of its images, and the size if it has no `size_multiple`."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def edit(self, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return edited images; see `Editor`."""
        ...


def standalone_editor(target: str, device: str) -> tuple[PictureModel, dict[str, object]] | None:
    """Return an editor that is not a run or checkpoint, and plain values that identify it; None for anything else.

    Args:
        target: the name of an editor, or a file with a suffix that an editor opens. What exists under such a name is a
            run or checkpoint nevertheless.
        device: such as "cpu".

    Raises:
        UserError: the package or the file cannot be used, or there is no such device.
    """
    plugin = _plugin(target)
    if plugin is None:
        return None
    build, place = plugin.load(), chosen_device(device)
    if not plugin.name.startswith("."):
        return cast(PictureModel, build(place)), {"method": plugin.name}
    path = Path(target)
    origin: dict[str, object] = {"model": plugin.class_path, "checkpoint": path.name, "sha256": file_hash(path)}
    return cast(PictureModel, build(path, place)), origin


def _plugin(target: str) -> plugins.Plugin | None:
    if is_address(target):
        return None
    path = Path(target)
    wanted = path.suffix.lower() if path.is_file() else "" if path.exists() else target
    bare = plugins.normalized(wanted.rpartition(":")[2])
    fitting = [plugin for plugin in plugins.plugins("editor") if plugin.name.startswith(".") == path.is_file()]
    known = any(plugins.normalized(plugin.name) == bare for plugin in fitting)
    return plugins.find("editor", wanted) if known else None
