"""A trained autoencoder against classical filters, on the same noisy crops of unseen photographs.

    aigc fit --config autoencoder_photos --run RUN
    python benchmarks/denoising.py RUN [--std 15 25 50] [--picture FILE]

The crops are the tiles of 100x100 pixels of the two held-out photographs of `photos`, 36 in all, with Gaussian noise,
rounded to 8 bits. Every method gets the same noisy crops, and its output is rounded to 8 bits. The filters are at an
advantage: each knows the noise level and uses, of several strengths, the one (shown in brackets) with the best PSNR on
these very crops. The network is given only the images.

PSNR (dB) and SSIM are means over the crops; time is CPU time per crop, one crop at a time.
"""

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import median_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor

from aigc_lightning.core.capabilities import Editor
from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.core.io.pictures import image_grid, save_png, to_uint8
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.base import to_signed
from aigc_lightning.data.corruptions import GaussianNoise, corrupt
from aigc_lightning.data.sets.photos import VAL_PHOTOS, load_photo, tiles
from aigc_lightning.metrics.pairs import psnr, ssim

SIZE = 100
Pixels = np.ndarray  # float (H, W, C) in [0, 1]
Filter = Callable[[Pixels, float, float], Pixels]  # pixels, standard deviation of the noise in [0, 1], strength


def nl_means(pixels: Pixels, std: float, strength: float) -> Pixels:
    options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": -1}
    return np.asarray(denoise_nl_means(pixels, h=strength * std, sigma=std, **options))


def median(pixels: Pixels, std: float, strength: float) -> Pixels:
    return np.asarray(median_filter(pixels, size=(int(strength), int(strength), 1), mode="reflect"))


def bilateral(pixels: Pixels, std: float, strength: float) -> Pixels:
    """Tomasi and Manduchi, ICCV 1998; scikit-image 0.26's is unusable, since its weights are misplaced."""
    radius, height, width = 6, *pixels.shape[:2]
    padded = np.pad(pixels, ((radius, radius), (radius, radius), (0, 0)), "reflect")
    total, weights = np.zeros_like(pixels), np.zeros((height, width, 1))
    for y, x in product(range(2 * radius + 1), repeat=2):
        shifted = padded[y : y + height, x : x + width]
        distance = np.square(shifted - pixels).sum(-1, keepdims=True) / (strength * std) ** 2
        weight = np.exp(-0.5 * (distance + ((y - radius) ** 2 + (x - radius) ** 2) / 2**2))
        total, weights = total + weight * shifted, weights + weight
    return total / weights


def total_variation(pixels: Pixels, std: float, strength: float) -> Pixels:
    return np.asarray(denoise_tv_chambolle(pixels, weight=strength * std, channel_axis=-1))


def bicubic(pixels: Pixels, std: float, strength: float) -> Pixels:
    """Shrink by a factor and enlarge again, which averages out the noise."""
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    small = picture.resize([round(side / strength) for side in picture.size], Image.Resampling.BICUBIC)
    return np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC)) / 255


FILTERS: dict[str, tuple[Filter, tuple[float, ...]]] = {
    "bicubic, down and up": (bicubic, (1.5, 2, 2.5, 3, 4)),
    "median": (median, (3, 5, 7)),
    "bilateral": (bilateral, (1.5, 2, 3, 4, 6)),
    "total variation": (total_variation, (0.6, 0.8, 1.0, 1.2, 1.4, 1.7)),
    "NL-means": (nl_means, (0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2)),
}


def held_out() -> Tensor:
    """Return all tiles, uint8 (N, 3, 100, 100)."""
    return torch.cat([tiles(load_photo(name), SIZE) for name in VAL_PHOTOS])


def noisy(clean: Tensor, std: float) -> Tensor:
    return corrupt(clean, [GaussianNoise(std)], [(0, 0, number) for number in range(len(clean))])


def filtered(images: Tensor, use: Filter, std: float, strength: float) -> Tensor:
    pixels = [image.permute(1, 2, 0).numpy() / 255 for image in images]
    outputs = np.stack([use(image, std / 255, strength) for image in pixels])
    return torch.from_numpy((outputs * 255).round().clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)


def scores(outputs: Tensor, clean: Tensor) -> tuple[float, float]:
    return tuple(measure(outputs / 255, clean / 255).mean().item() for measure in (psnr, ssim))  # type: ignore[return-value]


def best(spoilt: Tensor, clean: Tensor, use: Filter, std: float, strengths: tuple[float, ...]) -> float:
    return max(strengths, key=lambda strength: scores(filtered(spoilt, use, std, strength), clean)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--std", type=float, nargs="+", default=[15, 25, 50])
    parser.add_argument("--picture", type=Path, help="PNG with columns noisy | NL-means | autoencoder | clean")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    model = load_model(options.run)
    assert isinstance(model, Editor)
    clean = held_out()
    print("| noise | method | PSNR, dB | SSIM | ms per crop |")
    print("|---|---|---|---|---|")
    for std in options.std:
        spoilt = noisy(clean, std)
        outputs = {"noisy": spoilt}
        seconds = {"noisy": 0.0}
        for name, (use, strengths) in FILTERS.items():
            strength = best(spoilt, clean, use, std, strengths)
            label = f"{name} ({strength:g})"
            start = time.process_time()
            outputs[label] = filtered(spoilt, use, std, strength)
            seconds[label] = time.process_time() - start
        start = time.process_time()
        outputs["autoencoder"] = torch.cat([to_uint8(model.edit(to_signed(image[None]))) for image in spoilt])
        seconds["autoencoder"] = time.process_time() - start
        for name, images in outputs.items():
            decibels, similarity = scores(images, clean)
            print(f"| {std:g} | {name} | {decibels:.2f} | {similarity:.3f} | {1000 * seconds[name] / len(clean):.1f} |")
        if options.picture is not None and std == options.std[len(options.std) // 2]:
            shown = [outputs[name] for name in outputs if name == "noisy" or name.startswith(("NL", "auto"))]
            rows = torch.stack([*shown, clean], dim=1)[[3, 6, 20, 27]].flatten(0, 1)
            text = {"columns": "noisy | NL-means | autoencoder | clean", "std": f"{std:g}"}
            save_png(image_grid(rows, 4), options.picture, text)


if __name__ == "__main__":
    main()
