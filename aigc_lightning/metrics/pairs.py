"""Full-reference scores of images against their targets, one value per image.

The score of a set is the mean over its images. Images lie in [0, 1], so the data range of PSNR and SSIM is 1. SSIM uses
only windows inside the image, as its authors and scikit-image do; torchmetrics pads by reflection instead, hence this
implementation.
Papers: Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment, IEEE TIP 2004 (SSIM: Gaussian window of 11 pixels,
deviation 1.5); Wang, Simoncelli, Bovik, Multi-Scale Structural Similarity, Asilomar 2003 (MS-SSIM); Zhang et al., The
Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018 (LPIPS: VGG, version 0.1).
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d
from torchmetrics.functional.image.lpips import _LPIPS

from aigc_lightning.errors import UserError

_WINDOW, _DEVIATION = 11, 1.5  # pixels
_C1, _C2 = 0.01**2, 0.03**2
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, from the finest scale to the coarsest
# ITU-R BT.601 with studio range (16 to 235), as in super-resolution papers.
_STUDIO_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_STUDIO_BLACK = 16 / 255


def mse(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each image (B, C, H, W), (B,)."""
    _check(images, targets)
    return (images.double() - targets.double()).square().flatten(1).mean(dim=1)


def mae(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error of each image (B, C, H, W), (B,)."""
    _check(images, targets)
    return (images.double() - targets.double()).abs().flatten(1).mean(dim=1)


def psnr(images: Tensor, targets: Tensor, *, channel: Literal["rgb", "y"] = "rgb", border: int = 0) -> Tensor:
    """Return the peak signal-to-noise ratio of each image, in dB; infinite for equal images.

    Args:
        images: (B, C, H, W) in [0, 1].
        targets: the same.
        channel: "rgb" for all channels together, "y" for luma alone, as in super-resolution.
        border: pixels to leave out at each side.

    Returns:
        (B,).

    Examples:
        >>> psnr(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5))  # an error of 0.1
        tensor([20.0000], dtype=torch.float64)
    """
    if channel == "y":
        images, targets = luma(images), luma(targets)
    return -10 * mse(cropped(images, border), cropped(targets, border)).log10()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Return the structural similarity of each image (B, C, H, W), (B,) up to 1.

    Raises:
        UserError: images below 11 pixels.
    """
    _check(images, targets, smallest=_WINDOW)
    return _similarity(images.double(), targets.double())[0].mean(dim=1)


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Return the structural similarity of each image at five scales (B, C, H, W), (B,) up to 1.

    Raises:
        UserError: the images have 160 pixels or less, too few for five scales.
    """
    _check(images, targets, smallest=(_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1)
    x, y = images.double(), targets.double()
    product = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(_SCALE_WEIGHTS, 1):
        whole, contrast = _similarity(x, y)
        # The luminance of the coarsest scale alone counts; a negative contrast has no real power.
        product = product * (whole if scale == len(_SCALE_WEIGHTS) else contrast).clamp_min(0) ** weight
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    return product.mean(dim=1)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM, and its contrast and structure term alone, as means over each channel (B, C)."""
    mean_x, mean_y, square_x, square_y, product = map(_windows, (x, y, x * x, y * y, x * y))
    variances = square_x - mean_x**2 + square_y - mean_y**2
    contrast = (2 * (product - mean_x * mean_y) + _C2) / (variances + _C2)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * contrast).mean(dim=(2, 3)), contrast.mean(dim=(2, 3))


def _windows(x: Tensor) -> Tensor:
    """Return the mean of each Gaussian window inside of the image, (B, C, H - 10, W - 10)."""
    place = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    weights = (-(place**2) / (2 * _DEVIATION**2)).exp()
    column = (weights / weights.sum()).view(1, 1, -1, 1).expand(x.shape[1], -1, -1, -1)
    return conv2d(conv2d(x, column, groups=x.shape[1]), column.mT, groups=x.shape[1])


def luma(images: Tensor) -> Tensor:
    """Return the luma (B, 1, H, W) of RGB images in [0, 1], from 16/255 to 235/255; grey images stay as they are."""
    if images.shape[1] == 1:
        return images
    assert images.shape[1] == 3
    weights = torch.tensor(_STUDIO_LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True) + _STUDIO_BLACK


def cropped(images: Tensor, border: int) -> Tensor:
    """Return images without `border` pixels at each side."""
    return images[..., border : images.shape[-2] - border, border : images.shape[-1] - border]


class LPIPS:
    """LPIPS: differences of VGG-16 activations, with weights fitted to human judgements.

    The weights of the differences come with torchmetrics, those of VGG-16 from torchvision (`aigc assets fetch vgg16`).

    Args:
        vgg_weights: the file of VGG-16.

    Raises:
        UserError: the file holds something else.
    """

    def __init__(self, vgg_weights: Path) -> None:
        self.network = _LPIPS(pretrained=True, net="vgg", pnet_rand=True).requires_grad_(False)
        weights = torch.load(vgg_weights, map_location="cpu", weights_only=True)
        own = self.network.net.state_dict()  # such as slice2.7.bias for the file's features.7.bias
        try:
            self.network.net.load_state_dict({key: weights[f"features.{key.split('.', 1)[1]}"] for key in own})
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"{vgg_weights} does not hold the weights of VGG-16: {str(error).splitlines()[0]}",
                "Run `aigc assets fetch vgg16`.",
            ) from error

    def to(self, device: torch.device | str) -> "LPIPS":
        """Move the network to a device, and return this."""
        self.network.to(device)
        return self

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of each image from its target, 0 for equal ones.

        Args:
            images: (B, C, H, W) in [0, 1], C in {1, 3}, of 16 pixels or more.
            targets: the same.

        Returns:
            (B,), with gradients.
        """
        _check(images, targets, smallest=16)
        pair = [values.float().expand(-1, 3, -1, -1) for values in (images, targets)]
        found: Tensor = self.network(*pair, normalize=True)
        return found.flatten()


def _check(images: Tensor, targets: Tensor, smallest: int = 1) -> None:
    if images.shape != targets.shape:
        raise UserError(
            f"Images are {_size(images)} and their targets {_size(targets)}.", "Compare images of equal size."
        )
    if min(images.shape[-2:]) < smallest:
        raise UserError(f"Images are {_size(images)}, and this score needs {smallest} pixels.", "Leave this score out.")


def _size(images: Tensor) -> str:
    channels, height, width = images.shape[1:]
    return f"{height}x{width} with {channels} channels"
