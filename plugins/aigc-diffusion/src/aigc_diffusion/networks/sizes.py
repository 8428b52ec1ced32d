"""Images of sizes that are no multiple of what a network needs."""

from torch import Tensor
from torch.nn.functional import pad


def padded(images: Tensor, multiple: int) -> Tensor:
    """Return images (B, C, H, W) with zeros below and to the right, up to multiples of a number of pixels."""
    height, width = images.shape[-2:]
    missing = (-width % multiple, -height % multiple)
    return pad(images, (0, missing[0], 0, missing[1])) if any(missing) else images


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """Return the upper left part (B, C, height, width) of images."""
    return images[..., :height, :width]
