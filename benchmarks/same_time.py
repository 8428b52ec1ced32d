"""Image quality after the same time: a few minutes on Fashion-MNIST with `aigc fit` and a plain fp32 PyTorch loop.

    python benchmarks/same_time.py --data ROOT --judge RUN [--minutes 10] [--threads 2] [--out FOLDER]

The plain loop is that of `plain_loops.py`, a DCGAN of width 64 with batches of 64 images, padded to 32x32. Ours is
`aigc fit --config dcgan_fashion_mnist` with its defaults; its startup, pictures and checkpoints count towards its
minutes. They run one after the other. ROOT has the folder FashionMNIST with the published files. RUN is a run of
`cnn_fashion_mnist`, with which `aigc evaluate` scores 10,000 images of each side against 10,000 real ones. All results
are kept in FOLDER.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from cases import batches_of
from plain_loops import PlainDCGAN
from torchvision.io import write_png

from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.sets.torchvision_sets import FashionMNIST

NUM = 10_000


def write_images(images: torch.Tensor, folder: Path, first: int) -> None:
    """Write images (B, C, H, W) in [-1, 1] as PNG files numbered from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(to_uint8(images), first):
        write_png(image, str(folder / f"{number:05}.png"))


def write_real(data: FashionMNIST, folder: Path) -> None:
    """Write the first images of the dataset."""
    samples = data.samples(data.train_source())
    for first in range(0, NUM, 100):
        write_images(samples.__getitems__(list(range(first, first + 100)))["image"], folder, first)


def run_plain(data: FashionMNIST, seconds: float, folder: Path) -> int:
    """Train the plain loop, write its images, and return its number of steps."""
    torch.manual_seed(0)
    plain, steps = PlainDCGAN(batches_of(data), 1, 32, 64, 100), 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        plain.step()
        steps += 1
    plain.generator.eval()
    with torch.no_grad():
        for first in range(0, NUM, 100):
            write_images(plain.generator(torch.randn(100, plain.latent_size)), folder, first)
    return steps


def aigc(options: argparse.Namespace, *arguments: str) -> None:
    """Run a command, which shows its progress."""
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    subprocess.run([sys.executable, "-m", "aigc_lightning", *arguments], check=True, env={**os.environ, **threads})


def run_ours(options: argparse.Namespace, folder: Path) -> int:
    """Train the preset, write its images, and return its number of steps."""
    run, minutes = str(options.out / "run"), int(options.minutes)
    limit = f"00:00:{minutes:02}:{round(60 * (options.minutes - minutes)):02}"
    data = ["--config", "dcgan_fashion_mnist", "--data.root", options.data, "--run", run]
    aigc(options, "fit", *data, "--trainer.max_steps", "-1", "--trainer.max_time", limit)
    aigc(options, "sample", run, "--seeds", f"0-{NUM - 1}", "--out", str(folder))
    checkpoint: dict[str, Any] = torch.load(options.out / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    return int(checkpoint["global_step"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder that has FashionMNIST")
    parser.add_argument("--judge", required=True, help="a run of cnn_fashion_mnist")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("same_time"), help="folder that does not exist yet")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    options.out.mkdir(parents=True)
    data = FashionMNIST(options.data, batch_size=64)
    write_real(data, options.out / "real")
    steps = {"plain": run_plain(data, 60 * options.minutes, options.out / "plain")}
    steps["ours"] = run_ours(options, options.out / "ours")
    for who in steps:
        folders = ["--fake", str(options.out / who), "--real", str(options.out / "real")]
        out = str(options.out / f"evaluation_{who}")
        aigc(options, "evaluate", *folders, "--extractor", options.judge, "--out", out)
    print(f"\nSteps: {steps['ours']} against {steps['plain']}, {steps['ours'] / steps['plain']:.2f} times as many.")


if __name__ == "__main__":
    main()
