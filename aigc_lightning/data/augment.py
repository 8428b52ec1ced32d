"""Augmentation of batches of pixels, with random numbers that are a function of (seed, epoch, index).

The random transforms of torchvision draw from the global generator, so what they do to a sample depends on all samples
before it, and a resumed run would see different images. Here the draws are keyed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.core.batch import FieldKind
from aigc_lightning.data.common_corruptions import COMMON, WORST, CommonCorruption, check_kinds
from aigc_lightning.data.corruptions import corrupt
from aigc_lightning.errors import UserError

# One number per kind of draw, so that adding a kind does not change the others.
_FLIP, _CROP_Y, _CROP_X, _BRIGHTNESS, _CONTRAST, _SATURATION, _JITTER_Y, _JITTER_X, _CORRUPT, _CORRUPTION = range(10)
_KINDS = 100  # offset of the next stream's draws


@dataclass(frozen=True)
class Augment:
    """Augmentation during training.

    Masks and label maps move with their images but are never recoloured or smoothed.

    Args:
        flip: mirror a random half of the images left to right.
        crop: shift by up to this many pixels in each direction, with reflected borders.
        color: largest relative change of brightness, contrast and saturation, from 0 to 1.
        jitter: enlarge the height by this many pixels and the width in proportion (bicubic), then crop to the original
            size at random. Isola et al., CVPR 2017, use 30 at 256 pixels.
        corrupt: share of the images that are corrupted, last of all, from 0 to 1.
        corruptions: their kinds, of which each image gets one; all of `common_corruptions.COMMON` by default.
        severity: largest severity, from 1 to 5; each image gets one from 1 to this.

    Raises:
        UserError: a negative number of pixels, a share or colour change outside [0, 1], an unknown corruption, or
            corruptions without a share.
    """

    flip: bool = False
    crop: int = 0
    color: float = 0.0
    jitter: int = 0
    corrupt: float = 0.0
    corruptions: list[str] = field(default_factory=list)
    severity: int = WORST

    def __post_init__(self) -> None:
        for name, pixels in {"crop": self.crop, "jitter": self.jitter}.items():
            if pixels < 0:
                raise UserError(f"augmentation.{name} is {pixels} pixels.", "Give 0 or more.")
        if not 0 <= self.color <= 1:
            raise UserError(f"augmentation.color is {self.color}.", "Give a number from 0 to 1.")
        self._check_corruptions()

    def _check_corruptions(self) -> None:
        if not 0 <= self.corrupt <= 1:
            raise UserError(f"augmentation.corrupt is {self.corrupt}.", "Give a share of the images from 0 to 1.")
        if not 1 <= self.severity <= WORST:
            raise UserError(f"augmentation.severity is {self.severity}.", f"Give 1 to {WORST}.")
        check_kinds(self.corruptions)
        if not self.corrupt and (self.corruptions or self.severity != WORST):
            what = "augmentation has corruptions, but augmentation.corrupt is 0."
            raise UserError(what, "Give the share of the images that get one, such as 0.5.")


def augment(
    images: Tensor,
    options: Augment,
    seed: int,
    epochs: npt.NDArray[np.integer],
    indices: npt.NDArray[np.integer],
    stream: int = 0,
    kind: FieldKind = "image",
) -> Tensor:
    """Return augmented images, masks or label maps.

    Args:
        images: uint8 (B, C, H, W); masks and label maps of any type.
        options: which augmentations to apply.
        seed: seed of the run.
        epochs: (B,) epoch of each visit.
        indices: (B,) number of each sample in the dataset.
        stream: images of the same stream are augmented alike, those of different streams independently.
        kind: "image", "mask" or "label_map"; the latter two are moved as the images of their stream are, with nearest
            neighbours, so that no new values appear.

    Returns:
        (B, C, H, W) of the same type.
    """

    def draw(kind: int) -> Tensor:
        return torch.from_numpy(keyed.uniform(seed, epochs, indices, kind + _KINDS * stream))

    if options.flip:
        images = _mirrored(images, draw(_FLIP) < 0.5)
    if options.crop:
        images = _shift(images, options.crop, draw(_CROP_Y), draw(_CROP_X))
    if options.jitter:
        images = _jitter(images, options.jitter, draw(_JITTER_Y), draw(_JITTER_X), kind)
    if options.color and kind == "image":
        images = _recolor(images, options.color, draw(_BRIGHTNESS), draw(_CONTRAST), draw(_SATURATION))
    if options.corrupt and kind == "image":
        keys = [(seed, int(epoch), int(index), stream) for epoch, index in zip(epochs, indices, strict=True)]
        images = _corrupted(images, options, draw(_CORRUPT) < options.corrupt, draw(_CORRUPTION), keys)
    return images


def _corrupted(
    images: Tensor, options: Augment, chosen: Tensor, draws: Tensor, keys: Sequence[tuple[int, ...]]
) -> Tensor:
    """Return the images with the chosen ones corrupted; draws in [0, 1) select the kinds."""
    kinds = options.corruptions or list(COMMON)
    varied = images.clone()
    for place in chosen.nonzero().flatten().tolist():
        kind = kinds[int(float(draws[place]) * len(kinds))]
        corruption = CommonCorruption(kind, (1, options.severity))
        varied[place] = corrupt(images[place : place + 1], [corruption], [keys[place]])[0]
    return varied


def _shift(images: Tensor, reach: int, y: Tensor, x: Tensor) -> Tensor:
    """Crop (H, W) windows from the images padded by `reach` reflected pixels; y, x in [0, 1) give their positions."""
    height, width = images.shape[-2:]
    if reach >= min(height, width):
        raise UserError(f"augmentation.crop of {reach} pixels does not fit {height}x{width} images.", "Give less.")
    return _windows(_reflected(images, reach), height, width, y, x)


def _reflected(images: Tensor, reach: int) -> Tensor:
    """Return images padded by `reach` reflected pixels; PyTorch supports that for floats only."""
    height, width = images.shape[-2:]
    padded = torch.empty((*images.shape[:2], height + 2 * reach, width + 2 * reach), dtype=images.dtype)
    target, last = padded.numpy(), -1 - reach
    target[..., reach : reach + height, reach : reach + width] = images
    target[..., :reach] = target[..., 2 * reach : reach : -1]
    target[..., last + 1 :] = target[..., last - 1 : last - 1 - reach : -1]
    target[..., :reach, :] = target[..., 2 * reach : reach : -1, :]
    target[..., last + 1 :, :] = target[..., last - 1 : last - 1 - reach : -1, :]
    return padded


def _mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    """Return the images with the chosen ones mirrored left to right."""
    varied = images.clone()
    # NumPy's indexing copies whole images; PyTorch's goes by the byte.
    varied.numpy()[chosen.numpy()] = images.index_select(0, chosen.nonzero().flatten()).flip(-1).numpy()
    return varied


def _jitter(images: Tensor, pixels: int, y: Tensor, x: Tensor, kind: FieldKind) -> Tensor:
    """Crop (H, W) windows from the images enlarged by `pixels`; y, x in [0, 1) give their positions."""
    height, width = images.shape[-2:]
    enlarged = resized if kind == "image" else resized_nearest
    return _windows(enlarged(images, height + pixels, round(width * (height + pixels) / height)), height, width, y, x)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Return uint8 images (B, C, height, width), bicubic and antialiased."""
    larger = functional.interpolate(
        images.float(), (height, width), mode="bicubic", align_corners=False, antialias=True
    )
    return larger.round_().clamp_(0, 255).to(torch.uint8)


def resized_nearest(maps: Tensor, height: int, width: int) -> Tensor:
    """Return masks or label maps (B, C, height, width) of the same type, with nearest neighbours."""
    rows, columns = (
        ((torch.arange(size, dtype=torch.float64) + 0.5) * (old / size)).long()
        for size, old in zip((height, width), maps.shape[-2:], strict=True)
    )
    return maps[..., rows, :][..., columns]


def _windows(images: Tensor, height: int, width: int, y: Tensor, x: Tensor) -> Tensor:
    """Crop a window of this size from each image; y, x in [0, 1) run from the first to the last position."""
    cut = torch.empty((*images.shape[:2], height, width), dtype=images.dtype)
    tops = (y * (images.shape[-2] - height + 1)).long().tolist()
    lefts = (x * (images.shape[-1] - width + 1)).long().tolist()
    # Copying slices takes a hundredth of the time that indexing with a number for each pixel does.
    for target, source, top, left in zip(cut.numpy(), images.numpy(), tops, lefts, strict=True):
        target[:] = source[:, top : top + height, left : left + width]
    return cut


def _recolor(images: Tensor, strength: float, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, contrast about the mean and saturation about grey; alpha is unchanged."""

    def factor(draw: Tensor) -> Tensor:
        return (1 + strength * (2 * draw - 1)).float()[:, None, None, None]

    color, alpha = images[:, :3].float(), images[:, 3:]
    color.mul_(factor(brightness))
    mean = color.mean(dim=(1, 2, 3), keepdim=True)
    color.sub_(mean).mul_(factor(contrast)).add_(mean)
    if color.shape[1] == 3:
        grey = color.mean(dim=1, keepdim=True)
        color.sub_(grey).mul_(factor(saturation)).add_(grey)
    varied = color.round_().clamp_(0, 255).to(torch.uint8)
    return torch.cat([varied, alpha], dim=1) if alpha.shape[1] else varied
