"""What all classical methods have in common."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from aigc_lightning.core.spec import ImageSpec
from torch import Tensor

Pixels = npt.NDArray[np.floating[Any]]


class Classical:
    """Base class of methods without weights.

    Attributes:
        spec: of the images; their size does not matter.
        device: where results are; methods of NumPy compute on the CPU.

    Args:
        device: of the results.
    """

    aigc_api = 1
    size_multiple = 1
    spec = ImageSpec(3, 64, 64)

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def each(self, images: Tensor, function: Callable[[Pixels], Pixels]) -> Tensor:
        """Return a function of each image, clipped to [-1, 1].

        Args:
            images: (B, C, H, W) in [-1, 1].
            function: maps float64 pixels (H, W, C) in [0, 1] to others, of any size.
        """
        pixels = ((images.double() + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
        outputs = torch.stack([torch.from_numpy(np.ascontiguousarray(function(image))) for image in pixels])
        return (2 * outputs.permute(0, 3, 1, 2) - 1).clamp(-1, 1).float().to(self.device)
