"""The three protocols for resizing images to a network's input size before scoring.

The choice affects the scores, so each has a name. `tf1` is what the first FID did (TensorFlow 1, bilinear without
antialiasing, pixel corners aligned at the top left); `clean` is bicubic with antialiasing, as in Parmar, Zhang, Zhu, On
Aliased Resizing and Surprising Subtleties in GAN Evaluation, CVPR 2022; `torchmetrics` is bilinear with antialiasing.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from aigc_lightning.errors import UserError, did_you_mean

PROTOCOLS = ("tf1", "clean", "torchmetrics")
# ITU-R BT.601 luma, the weights of Pillow's grey.
_LUMA = (0.299, 0.587, 0.114)


def check_protocol(name: str) -> str:
    """Return the name.

    Raises:
        UserError: there is no such resize protocol.
    """
    if name not in PROTOCOLS:
        raise UserError(f"There is no resize protocol {name!r}.", did_you_mean(name, PROTOCOLS))
    return name


def resize(images: Tensor, size: tuple[int, int], protocol: str) -> Tensor:
    """Return images of another size, not rounded to whole grey levels.

    Args:
        images: uint8, or float in [0, 255], (B, C, H, W).
        size: height and width in pixels.
        protocol: "tf1", "clean" or "torchmetrics".

    Returns:
        float32 in [0, 255], (B, C, *size); unchanged where the size is right.

    Raises:
        UserError: there is no such protocol.
    """
    check_protocol(protocol)
    pixels = images.float()
    if pixels.shape[-2:] == size:
        return pixels
    if protocol == "tf1":
        return _lines(_lines(pixels, size[1], 3), size[0], 2)
    mode = "bicubic" if protocol == "clean" else "bilinear"
    return interpolate(pixels, size, mode=mode, antialias=True, align_corners=False).clamp(0, 255)


def to_channels(images: Tensor, channels: int) -> Tensor:
    """Return images with another number of channels.

    Grey is repeated, colour becomes luma, alpha is composited on white or added as opaque.

    Args:
        images: uint8, or float in [0, 255], (B, C, H, W), C in {1, 3, 4}.
        channels: 1, 3 or 4.

    Returns:
        (B, channels, H, W) of the same type; only uint8 is rounded.
    """
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 4:
        alpha = images[:, 3:].float() / 255
        images = _as(images, images[:, :3] * alpha + 255 * (1 - alpha))
    if channels == 1 and images.shape[1] == 3:
        weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
        return _as(images, (images * weights).sum(dim=1, keepdim=True))
    images = images.expand(-1, min(channels, 3), -1, -1)
    return images if channels < 4 else torch.cat([images, torch.full_like(images[:, :1], 255)], dim=1)


def _as(images: Tensor, values: Tensor) -> Tensor:
    """Return values in the type of the images."""
    return values.to(images.dtype) if images.is_floating_point() else values.round().to(images.dtype)


def _lines(pixels: Tensor, length: int, dim: int) -> Tensor:
    """Resize one axis: pixel i of the result lies at i * old / new, between the two old pixels around it."""
    old = pixels.shape[dim]
    place = torch.arange(length, device=pixels.device, dtype=torch.float32) * torch.tensor(old / length)
    low = place.long().clamp_max(old - 1)
    high = (low + 1).clamp_max(old - 1)
    share = (place - low).view(-1, *[1] * (pixels.ndim - 1 - dim))
    left = pixels.index_select(dim, low)
    return left + (pixels.index_select(dim, high) - left) * share  # in this form equal to torch-fidelity bit for bit
