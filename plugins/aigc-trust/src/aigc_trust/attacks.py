"""What happens to pictures on their way, such as JPEG; gradients pass as if what is not differentiable did nothing.

Source: Zhu et al., HiDDeN, ECCV 2018, https://arxiv.org/abs/1807.09937 (training through such changes).
Departure: JPEG is the real one of Pillow, with a straight-through gradient (Bengio et al., 2013).
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aigc_trust.networks import resized

#: Changes an image batch, given one number in [0, 1) that says how strongly, and normal noise of the images' shape.
Attack = Callable[[Tensor, float, Tensor], Tensor]


def rounded(images: Tensor) -> Tensor:
    """Return images clipped and rounded to 256 levels, as files hold them."""
    return _straight_through(images, (images.clamp(-1, 1).add(1) * 127.5).round() / 127.5 - 1)


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Return images saved as JPEG files and read again."""
    pixels = (images.detach().clamp(-1, 1).add(1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy(force=True)
    saved = np.stack([_saved(image, quality) for image in pixels])
    read = torch.from_numpy(saved).reshape(pixels.shape).permute(0, 3, 1, 2).to(images)
    return _straight_through(images, read / 127.5 - 1)


def scaled(images: Tensor, factor: float) -> Tensor:
    """Return images resized by a factor and back."""
    height, width = images.shape[-2:]
    small = resized(images, max(1, round(height * factor)), max(1, round(width * factor)))
    return resized(small, height, width)


def cropped(images: Tensor, share: float) -> Tensor:
    """Return images without a share of their height and width, half of it on each side, resized to their old size."""
    height, width = images.shape[-2:]
    top, left = round(height * share / 2), round(width * share / 2)
    return resized(images[..., top : height - top, left : width - left], height, width)


def brightened(images: Tensor, factor: float) -> Tensor:
    """Return images whose pixels, black being 0, are multiplied by a factor."""
    return ((images + 1) * factor - 1).clamp(-1, 1)


def noisy(images: Tensor, std: float, noise: Tensor) -> Tensor:
    """Return images with normal noise, its standard deviation in levels of 255."""
    return (images + noise * std / 127.5).clamp(-1, 1)


def screenshot(images: Tensor, strength: float) -> Tensor:
    """Return images shown enlarged by 1.25 on a screen, a little brighter or darker, saved as JPEG and scaled back."""
    shown = scaled(brightened(images, 0.9 + 0.2 * strength), 1.25)
    return jpeg(scaled(shown, 0.75), round(90 - 15 * strength))


#: Drawn from in training.
TRAINING: tuple[Attack, ...] = (
    lambda images, *_: images,
    lambda images, strength, _: jpeg(images, round(95 - 45 * strength)),
    lambda images, strength, _: jpeg(images, round(85 - 35 * strength)),
    lambda images, strength, _: scaled(images, 0.45 + 0.5 * strength),
    lambda images, strength, _: cropped(images, 0.12 * strength),
    lambda images, strength, _: brightened(images, 0.7 + 0.6 * strength),
    lambda images, strength, noise: noisy(images, 8 * strength, noise),
    lambda images, strength, _: screenshot(images, strength),
)


def _straight_through(images: Tensor, changed: Tensor) -> Tensor:
    return images + (changed - images).detach()


def _saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
