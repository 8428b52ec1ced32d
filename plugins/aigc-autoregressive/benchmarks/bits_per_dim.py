"""Bits per dimension of held-out images: lossless codecs against models that compute likelihoods.

    python benchmarks/bits_per_dim.py runs/pixelcnn_digits runs/vae_digits

All compress the same 8-bit images, the held-out ones of the first run's data. A codec gets them in one file, so that
its headers count once, and the layout, one image below the other or a square of images, that it compresses better.
"""

import argparse
import gzip
import io
import math

import torch
from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.capabilities import LikelihoodModel, likelihood_kind, takes
from aigc_lightning.core.checkpoint import load_with_record
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.metrics.likelihood import bits_per_dim
from PIL import Image
from torch import Tensor

_BATCH = 256
_SIGNS = {"exact": "", "lower_bound": "<= ", "estimate": "~ "}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="runs of models with likelihoods; the first one's data are compressed")
    runs = [(run, *load_with_record(find_checkpoint(run))) for run in parser.parse_args().runs]
    print(machine_line())
    made = runs[0][2]["data"]
    source = build_data(made["class_path"], made["config"]).val_source()
    indices = range(len(source))
    images, labels = source.images(indices), source.labels(indices)
    rows = [(name, f"{8 * size / images.numel():.3f}") for name, size in codec_sizes(images).items()]
    for run, model, _ in runs:
        if isinstance(model, LikelihoodModel):
            found = likelihoods(model.eval(), images, None)
            rows.append((run, _SIGNS[likelihood_kind(model)] + mean_bits(found, images)))
            if takes(model.log_likelihood, "labels") and labels is not None:
                rows.append((f"{run}, given the class", mean_bits(likelihoods(model, images, labels), images)))
    print(f"{len(images)} held-out images of {images.shape[-2]}x{images.shape[-1]}, bits per dimension")
    for name, bits in rows:
        print(f"{name:48} {bits:>9}")


def likelihoods(model: LikelihoodModel, images: Tensor, labels: Tensor | None) -> Tensor:
    """Return the log-likelihoods of uint8 images (B, C, H, W) in nats, (B,)."""
    parts = []
    for first in range(0, len(images), _BATCH):
        part = images[first : first + _BATCH].float() / 127.5 - 1
        given = {} if labels is None else {"labels": labels[first : first + _BATCH].tolist()}
        parts.append(model.log_likelihood(part, **given))
    return torch.cat(parts)


def mean_bits(log_likelihoods: Tensor, images: Tensor) -> str:
    """Return the mean over the images, in bits per dimension."""
    return f"{bits_per_dim(log_likelihoods, images[0].numel()).mean().item():.3f}"


def codec_sizes(images: Tensor) -> dict[str, int]:
    """Return the bytes that each codec takes for uint8 images (B, C, H, W)."""
    side = math.ceil(math.sqrt(len(images)))
    sheets = [sheet(images, 1), sheet(images, side)]
    options = {"PNG": {"optimize": True}, "WebP": {"lossless": True, "quality": 100, "method": 6}}
    sizes = {"gzip": len(gzip.compress(images.numpy().tobytes(), 9, mtime=0))}
    for name, how in options.items():
        sizes[name] = min(encoded(picture, name, how) for picture in sheets)
    return sizes


def sheet(images: Tensor, columns: int) -> Image.Image:
    """Return images side by side in rows, the last row being filled up with black."""
    rows = -(-len(images) // columns)
    filled = torch.cat([images, images.new_zeros(rows * columns - len(images), *images.shape[1:])])
    count, channels, height, width = filled.shape
    grid = filled.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(rows * height, columns * width, channels).squeeze(-1)
    return Image.fromarray(pixels.numpy())


def encoded(picture: Image.Image, name: str, options: dict[str, object]) -> int:
    """Return the size of a picture's file in bytes."""
    file = io.BytesIO()
    picture.save(file, name, **options)
    return len(file.getvalue())


if __name__ == "__main__":
    main()
