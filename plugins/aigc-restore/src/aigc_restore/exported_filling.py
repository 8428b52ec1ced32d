"""Pictures without holes from the exported network of an `inpaint`. Needs NumPy and onnxruntime alone.

    python FILE_sample.py --pictures photo.png --mask hole.png

The network is FILE.onnx beside this file; it corrects pictures whose holes were filled without learning, which is done
here. Results are those of `aigc edit` for pictures that it does not cut into tiles.

Papers: Gortler et al., The Lumigraph, SIGGRAPH 1996 (pull and push); Galerne, Leclaire, Texture Inpainting Using
Efficient Gaussian Conditional Simulation, SIAM Journal on Imaging Sciences 2017 (the filling "spectral")
Shapes: B batch, C channels, H and W height and width; N windows of h times w pixels. Images lie in [-1, 1].
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aigc_lightning.core.exported_files import Array, Run, Settings, opened, read_picture, write_images

_TINY = 1e-20
_TENSION = 0.4  # weight of squared gradients beside squared Laplacians
_LEAST_KNOWN = 0.1  # share of a window, below which it is left as it is
_NUM_WINDOWS = 64  # at a time


class Stage(NamedTuple):
    """How windows of one size are filled, which overlap by half."""

    side: int  # h and w
    blur: float  # of the spectrum, in frequencies of the window
    rounds: int  # estimates of the spectrum
    steps: int  # of conjugate gradients before each estimate but the first
    last_steps: int  # after the last one


_STAGES = (Stage(96, 2.0, 4, 12, 30), Stage(32, 1.2, 2, 8, 12))


def sample(run: Run, settings: Settings, pictures: Array, masks: Array) -> Array:
    """Return pictures with their holes filled, float32 (B, C, H, W); all other pixels are left as they are.

    Args:
        run: the exported network.
        settings: the filling, and what heights and widths must be multiples of, from the metadata.
        pictures: float32 (B, C, H, W) in [-1, 1], of any size.
        masks: (B, 1, H, W), 1 in holes and 0 elsewhere.
    """
    holes, (height, width) = masks > 0.5, pictures.shape[2:]
    missing = [(0, -size % settings["multiple"]) for size in (height, width)]
    padded, unknown = (np.pad(each, [(0, 0), (0, 0), *missing], mode="symmetric") for each in (pictures, holes))
    fill = spectral if settings["filling"] == "spectral" else push_pull
    filled = fill(padded.astype(np.float64), unknown.astype(np.float64))
    edited = run({"images": filled.astype(np.float32), "masks": unknown.astype(np.float32)})[0]
    return np.where(holes, edited[..., :height, :width], pictures)


# ---- the filling "smooth"


def push_pull(images: Array, masks: Array) -> Array:
    """Return images (B, C, H, W) with smoothly filled holes, of masks (B, 1, H, W) of 0 and 1; in float64."""
    return _pulled(np.where(masks > 0.5, 0, images), 1 - masks, 16)


def _pulled(images: Array, known: Array, steps: int) -> Array:
    """Fill where `known` (B, 1, H, W), the share of each pixel that is known, is below 1; in steps at full size."""
    height, width = images.shape[2:]
    if max(height, width) == 1:
        return images
    weights = _halved(known)
    means = _halved(images * known) / weights.clip(1e-8)
    smaller = _pulled(means, (4 * weights).clip(None, 1), min(2 * steps, 64))
    smooth = _doubled(_doubled(smaller, 2), 3)[..., :height, :width]
    return _smoothed(known * images + (1 - known) * smooth, (known == 0).astype(np.float64), steps)


def _halved(images: Array) -> Array:
    """Return the means of 2x2 pixels, with zeros where a side is odd."""
    height, width = images.shape[2:]
    padded = np.pad(images, [(0, 0), (0, 0), (0, height % 2), (0, width % 2)])
    halved: Array = padded.reshape(*images.shape[:2], padded.shape[2] // 2, 2, padded.shape[3] // 2, 2).mean((3, 5))
    return halved


def _doubled(images: Array, axis: int) -> Array:
    """Return images of twice the size along an axis, interpolated linearly."""
    near = np.moveaxis(images, axis, -1)
    around = np.concatenate([near[..., :1], near, near[..., -1:]], axis=-1)
    both = [0.75 * near + 0.25 * around[..., :-2], 0.75 * near + 0.25 * around[..., 2:]]
    return np.moveaxis(np.stack(both, axis=-1).reshape(*near.shape[:-1], -1), -1, axis)


def _smoothed(images: Array, unknown: Array, steps: int) -> Array:
    """Make images (B, C, H, W) smoother where `unknown` (B, 1, H, W) is 1, by conjugate gradients."""
    residual = -unknown * _roughness(images)
    direction, size = residual, _dot(residual, residual)
    for _ in range(steps):
        curvature = unknown * _roughness(direction)
        step = size / _dot(direction, curvature).clip(_TINY)
        images, residual = images + step * direction, residual - step * curvature
        before, size = size, _dot(residual, residual)
        direction = residual + size / before.clip(_TINY) * direction
    return images


def _roughness(images: Array) -> Array:
    laplacian = _laplacian(images)
    return _laplacian(laplacian) - _TENSION * laplacian


def _laplacian(images: Array) -> Array:
    """Return the sum of the differences to the four neighbours; the border is repeated."""
    around = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    sides = around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
    difference: Array = sides - 4 * images
    return difference


def _dot(first: Array, second: Array) -> Array:
    """Return the inner product of each image (B, C, H, W) with another, (B, 1, 1, 1)."""
    product: Array = (first * second).sum((1, 2, 3), keepdims=True)
    return product


# ---- the filling "spectral"


def spectral(images: Array, masks: Array) -> Array:
    """Return images (B, C, H, W) whose holes continue what repeats, of masks (B, 1, H, W) of 0 and 1; in float64."""
    filled = push_pull(images, masks)
    for stage in _STAGES:
        filled = _in_windows(filled, masks, stage)
    return np.where(masks > 0.5, filled, images)


def _in_windows(images: Array, masks: Array, stage: Stage) -> Array:
    """Return filled images (B, C, H, W), filled better from windows that overlap."""
    height, width = (min(stage.side, size) for size in images.shape[2:])
    shape = _bump(height)[:, None] * _bump(width)
    changes, total = np.zeros_like(images), np.zeros_like(images[:, :1])
    places: list[tuple[int | slice, ...]] = []
    for top in _starts(images.shape[2], height):
        for left in _starts(images.shape[3], width):
            inside = slice(top, top + height), slice(left, left + width)
            total[..., *inside] += shape
            shares = masks[..., *inside].mean((1, 2, 3)).tolist()
            places += [(n, slice(None), *inside) for n, hole in enumerate(shares) if 0 < hole <= 1 - _LEAST_KNOWN]
    for start in range(0, len(places), _NUM_WINDOWS):
        chosen = places[start : start + _NUM_WINDOWS]
        before, unknown = (np.stack([whole[place] for place in chosen]) for whole in (images, masks))
        trust = (2 - 2 * unknown.mean((1, 2, 3), keepdims=True)).clip(None, 1)
        change = shape * trust * (_mean(before, unknown, stage) - before)
        for place, part in zip(chosen, change, strict=True):
            changes[place] += part
    filled: Array = images + changes / total
    return filled


def _starts(size: int, side: int) -> Sequence[int]:
    return [*range(0, size - side, max(1, side // 2)), size - side]


def _bump(size: int) -> Array:
    """Return weights (size,) that fall to about 0 at the ends of a window."""
    weights: Array = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    return weights


class Basis:
    """Orthonormal cosines of windows.

    Args:
        sides: h and w.
        blur: standard deviation in frequencies.
    """

    def __init__(self, sides: Sequence[int], blur: float) -> None:
        self.rows, self.columns = (_cosines(side) for side in sides)
        self.row_blur, self.column_blur = (_blur(side, blur) for side in sides)
        height, width = (2 - 2 * np.cos(np.pi * np.arange(side) / side) for side in sides)
        squared = height[:, None] + width
        self.prior = 1 / (_TENSION * squared + squared**2 + 1e-6)

    def transform(self, pixels: Array) -> Array:
        """Return the coefficients (N, C, h, w) of pixels (N, C, h, w)."""
        coefficients: Array = self.rows @ pixels @ self.columns.T
        return coefficients

    def filtered(self, pixels: Array, factors: Array) -> Array:
        """Return pixels (N, C, h, w) with their coefficients multiplied by factors (N, 1, h, w)."""
        filtered: Array = self.rows.T @ (factors * self.transform(pixels)) @ self.columns
        return filtered

    def blurred(self, spectrum: Array) -> Array:
        """Return a spectrum (N, 1, h, w), blurred over neighbouring frequencies."""
        blurred: Array = self.row_blur @ spectrum @ self.column_blur.T
        return blurred


def _cosines(size: int) -> Array:
    places = np.arange(size)
    matrix: Array = np.cos(np.pi / size * places[:, None] * (places + 0.5)) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    return matrix


def _blur(size: int, std: float) -> Array:
    """Return a Gaussian blur as a matrix (size, size); at both ends the spectrum goes on as its mirror image."""
    places = np.arange(size)
    mirrored = np.stack([places, -1 - places, 2 * size - 1 - places])
    weights = np.exp(-0.5 * ((mirrored[:, None] - places[:, None]) / std) ** 2).sum(0)
    blur: Array = weights / weights.sum(1, keepdims=True)
    return blur


def _mean(pixels: Array, unknown: Array, stage: Stage) -> Array:
    """Return the mean in the holes of windows (N, C, h, w) of a Gaussian process with the spectrum of each."""
    basis = Basis(pixels.shape[2:], stage.blur)
    spectrum, unit = basis.prior, None
    for number in range(stage.rounds):
        if number:
            pixels = _solved(pixels, unknown, basis, spectrum, stage.steps)
        power = (basis.transform(pixels) ** 2).mean(1, keepdims=True) / basis.prior
        if unit is None:
            unit = power.reshape(len(power), -1)[:, 1:].mean(1)[:, None, None, None].clip(1e-30)
        spectrum = basis.prior * (0.1 + 0.9 * basis.blurred(power / unit))
    return _solved(pixels, unknown, basis, spectrum, stage.last_steps)


def _solved(pixels: Array, unknown: Array, basis: Basis, spectrum: Array, steps: int) -> Array:
    """Make pixels (N, C, h, w) more probable where `unknown` is 1, by preconditioned conjugate gradients."""
    precision = 1 / spectrum
    residual = -unknown * basis.filtered(pixels, precision)
    direction = better = unknown * basis.filtered(residual, spectrum)
    size = _dot(residual, better)
    for _ in range(steps):
        curvature = unknown * basis.filtered(direction, precision)
        step = size / _dot(direction, curvature).clip(1e-30)
        pixels, residual = pixels + step * direction, residual - step * curvature
        better = unknown * basis.filtered(residual, spectrum)
        before, size = size, _dot(residual, better)
        direction = better + size / before.clip(1e-30) * direction
    return pixels


def main() -> None:
    """Write `NAME_edited.png` for each picture into the current folder."""
    settings, run = opened(Path(__file__))
    parser = argparse.ArgumentParser(description="Fill holes with the exported network beside this file.")
    help_ = "pictures of the mask's size: files, or uint8 .npy arrays (H, W) or (H, W, C)"
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help=help_)
    help_ = "white where the pictures are filled; all else stays as it is"
    parser.add_argument("--mask", type=Path, required=True, help=help_)
    options = parser.parse_args()
    files: list[Path] = options.pictures
    try:
        hole = read_picture(options.mask, [1]) >= 0
        pictures = {file.stem: read_picture(file, [settings["channels"]]) for file in files}
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if len(pictures) < len(files):
        parser.error("two of the pictures have the same name")
    if not hole.any():
        parser.error(f"{options.mask} has no white pixel")
    if any(picture.shape[1:] != hole.shape[1:] for picture in pictures.values()):
        parser.error("the pictures and the mask differ in size")
    masks = hole[None].astype(np.float32)
    for name, picture in pictures.items():
        write_images([f"{name}_edited.png"], sample(run("edited"), settings, picture[None], masks))


if __name__ == "__main__":
    main()
