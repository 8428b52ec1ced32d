"""Bicubic resizing by whole factors, as in MATLAB's imresize, which made the benchmarks of super-resolution.

The kernel is Keys' with a = -0.5 (IEEE TASSP 1981), widened for antialiasing where images shrink. Beyond its border an
image is continued by its outermost pixels, which reproduces the small images of Set5 exactly; later versions of MATLAB
mirror the image, and torch leaves out what lies outside.
Shapes: H and W height and width in pixels, S scale.
"""

from torch import Tensor
from torch.nn.functional import interpolate, pad

_SUPPORT = 2  # pixels that the kernel reaches to each side, of the smaller image


def reduced(images: Tensor, scale: int) -> Tensor:
    """Return images of 1 / S of the size, with pixels that are whole numbers from 0 to 255.

    As MATLAB does for 8-bit images, the height is reduced first and the result is rounded, then the width.

    Args:
        images: float (..., H, W) in [0, 255], H and W being multiples of S.
        scale: S.

    Returns:
        (..., H / S, W / S) of the same type.
    """
    height, width = images.shape[-2] // scale, images.shape[-1] // scale
    margin = _SUPPORT * scale
    planes = images.double().reshape(-1, 1, *images.shape[-2:])  # doubles: ties must be found as such
    rows = _resized(pad(planes, [0, 0, margin, margin], "replicate"), (height + 2 * _SUPPORT, images.shape[-1]))
    rows = _rounded(rows[..., _SUPPORT : _SUPPORT + height, :])
    columns = _resized(pad(rows, [margin, margin, 0, 0], "replicate"), (height, width + 2 * _SUPPORT))
    small = _rounded(columns[..., _SUPPORT : _SUPPORT + width])
    return small.reshape(*images.shape[:-2], height, width).to(images.dtype)


def enlarged(images: Tensor, scale: int) -> Tensor:
    """Return images of S times the size, neither rounded nor clipped.

    Args:
        images: float (..., H, W).
        scale: S.

    Returns:
        (..., S H, S W) of the same type.
    """
    height, width = images.shape[-2:]
    planes = pad(images.reshape(-1, 1, height, width), [_SUPPORT] * 4, "replicate")
    margin = _SUPPORT * scale
    large = _resized(planes, (scale * height + 2 * margin, scale * width + 2 * margin))
    return large[..., margin:-margin, margin:-margin].reshape(*images.shape[:-2], scale * height, scale * width)


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(planes, size, mode="bicubic", align_corners=False, antialias=True)


def _rounded(pixels: Tensor) -> Tensor:
    """Round halves up, as MATLAB does."""
    return (pixels + 0.5 + 1e-9).floor().clamp(0, 255)
