"""Networks of other projects: files of weights from which spandrel recognizes the network.

Project: https://github.com/chaiNNer-org/spandrel (more than 40 networks for super-resolution and restoration)
Shapes: B batch, C channels, H and W height and width in pixels, S scale.
"""

import math
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from torch import Tensor
from torch.nn.functional import pad

_CHANNELS = (1, 3, 4)


class ForeignNetwork:
    """A network of another project, such as ESRGAN or SwinIR, from a .pth file.

    Nothing in the file is executed: spandrel's unpickler refuses everything but tensors and plain containers.

    Args:
        path: the file.
        device: where to compute.

    Attributes:
        scale: S.
        size_multiple: of which heights and widths are multiples.

    Raises:
        UserError: spandrel is missing, the file has more than weights, the network is unknown, or is not for images.
    """

    aigc_api = 1
    reach = math.inf  # not known

    def __init__(self, path: Path, device: torch.device) -> None:
        self.device = device
        self._network = _loaded(path, device)
        needs = self._network.size_requirements
        channels = self._network.input_channels
        if channels not in _CHANNELS or self._network.output_channels != channels:
            changed = f"images of {channels} channels to {self._network.output_channels}"
            raise UserError(f"The network in {path} maps {changed}.", "Use one that maps grey or colour to the same.")
        self.scale, self.size_multiple = int(self._network.scale), int(needs.multiple_of)
        self._smallest, self._square = int(needs.minimum), bool(needs.square)
        self.spec = ImageSpec(channels, 64, 64)

    def edit(self, images: Tensor) -> Tensor:
        """Return images (B, C, S H, S W) in [-1, 1] of images (B, C, H, W) in [-1, 1]."""
        height, width = images.shape[-2:]
        new_height, new_width = (self._side(length) for length in (height, width))
        if self._square:
            new_height = new_width = max(new_height, new_width)
        padding = [0, new_width - width, 0, new_height - height]
        fits = padding[1] < width and padding[3] < height
        padded = pad((images.to(self.device) + 1) / 2, padding, "reflect" if fits else "replicate")
        with torch.no_grad():
            output: Tensor = self._network(padded)
        return (2 * output[..., : self.scale * height, : self.scale * width].float() - 1).clamp(-1, 1)

    def _side(self, length: int) -> int:
        multiple = self.size_multiple
        return -(-max(length, self._smallest) // multiple) * multiple


def _loaded(path: Path, device: torch.device) -> Any:
    """Return spandrel's descriptor of the network in a file."""
    try:
        import spandrel
    except ImportError as error:
        what = f"{path} is a file of another project, which spandrel reads."
        raise UserError(what, 'Run: pip install "aigc-restore[spandrel]"') from error
    try:
        network = spandrel.ModelLoader(device).load_from_file(path)
    except spandrel.UnsupportedModelError as error:
        raise UserError(f"The network in {path} is unknown.", "Spandrel lists what it knows in its README.") from error
    except Exception as error:  # pickles fail in many ways
        raise UserError(
            f"{path} cannot be read: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
            "Keep only the weights: torch.save(network.state_dict(), FILE), without optimizers or NumPy values.",
        ) from error
    if not isinstance(network, spandrel.ImageModelDescriptor):
        what = f"The network in {path} needs more than an image, such as a mask."
        raise UserError(what, "Use a network for super-resolution or restoration.")
    return network.eval()
