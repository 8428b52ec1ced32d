"""The network of an `inpaint` as an exported program, with the file that fills holes and calls it.

The filling that the network corrects is no part of the program: its number of sizes, and for "spectral" also the places
of its windows, depend on the picture.
"""

from typing import TYPE_CHECKING, Any

import torch
from aigc_lightning.core import exported_files
from aigc_lightning.core.export_graphs import ExportGraph, GraphInput, image_input, image_trials
from aigc_lightning.core.export_loops import ExportLoop
from torch import Tensor

from aigc_restore import exported_filling

if TYPE_CHECKING:
    from aigc_restore.models.inpaint import Inpaint


def filling_graphs(model: "Inpaint") -> dict[str, ExportGraph | str]:
    """Return `fill`, which corrects pictures whose holes were filled, with the file that fills them."""
    network: Any = model.averaged("generator")

    def call(images: Tensor, masks: Tensor) -> Tensor:
        holes = masks > 0.5
        return torch.where(holes, network.corrected(images, holes.to(images)).clamp(-1, 1), images)

    images = image_input(model, dynamic=True, meaning="images in [-1, 1], whose holes are filled without learning")
    masks = GraphInput(("batch", 1, "height", "width"), 0, 1, meaning="1 in holes, else 0")
    multiple = model.size_multiple
    return {
        "fill": ExportGraph(
            model,
            call,
            {"images": images, "masks": masks},
            ("edited",),
            image_trials(model, multiple),
            multiple,
            meaning="images in [-1, 1]; outside of holes as they were",
            loop=_loop(model),
        )
    }


def _loop(model: "Inpaint") -> ExportLoop:
    spec = model.spec
    # Noise: what "spectral" finds in even areas depends on how numbers are rounded.
    pictures = 2 * torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0)) - 1
    masks = torch.zeros_like(pictures[:, :1])
    masks[0, :, masks.shape[2] // 2 :] = masks[1, :, :, masks.shape[3] // 4 : masks.shape[3] // 2] = 1
    settings = {"filling": model.filling, "channels": spec.channels, "multiple": model.size_multiple}
    example = {"pictures": pictures.numpy(), "masks": masks.numpy()}
    return ExportLoop(exported_filling, settings, example, lambda: model.edit(pictures, masks), (exported_files,))
