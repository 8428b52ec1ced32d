"""Images per second of the data, against bare decoders and against torchvision's datasets with PyTorch's loader.

    python benchmarks/input.py [--rounds 5]

All run in one process with one thread and take turns, block by block; shown are medians of images per second of CPU
time. Files are created in a temporary folder: smooth noise with grain, which JPEG and PNG compress about as well as
photographs. The work is the same on both sides: decode, resize to 64x64 (bicubic, antialiased), crop the centre, scale
to [-1, 1], and batch by 16.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from aigc_lightning.core.spec import ImageSpec

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms
from torchvision.io import decode_image

from aigc_lightning.commands.data.prepare import main as prepare
from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.quiet import quiet_console
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.data.degraded_images import DegradedImages
from aigc_lightning.data.folders import files
from aigc_lightning.data.folders.captioned_images import CaptionedImages
from aigc_lightning.data.folders.image_folder import ImageFolder
from aigc_lightning.data.folders.paired_images import PairedImages
from aigc_lightning.data.folders.unpaired_images import UnpairedImages
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sets.photos import Photos
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.data.sets.torchvision_sets import SizedSource
from aigc_lightning.data.shards.shards import Shards

SIZE, BATCH = 64, 16
SCALE = [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
VARY = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(SIZE, padding=4, padding_mode="reflect")]
OURS_VARY = Augment(flip=True, crop=4)

#: Does a block of work and returns the number of images.
Block = Callable[[], int]


class Pictures(Dataset[Any]):
    """Arrays in memory in torchvision's way: `torchvision.datasets.MNIST` without the download."""

    def __init__(self, images: torch.Tensor, transform: Any) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[number].numpy())), 0


class Arrays(ImageDataModule):
    """Arrays in memory in our way."""

    def __init__(self, images: torch.Tensor, **options: Any) -> None:
        super().__init__(**options)
        self.source = SizedSource(images[:, None], torch.zeros(len(images), dtype=torch.int64), images.shape[-1] + 4)

    @property
    def spec(self) -> ImageSpec:
        """What they look like."""
        side = self.source.images([0]).shape[-1]
        return ImageSpec(1, side, side)

    def train_source(self) -> ArraySource:
        """Return the images."""
        return self.source

    def val_source(self) -> ArraySource:
        """Return them."""
        return self.source


def picture(number: int, width: int, height: int) -> Image.Image:
    """Return smooth noise with grain."""
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (max(4, height // 16), max(4, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = random.integers(-4, 5, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def fill(root: Path, suffix: str, size: tuple[int, int], count: int) -> Path:
    """Write images into two folders."""
    for number in range(count):
        path = root / "AB"[number % 2] / f"{number // 2:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, *size).save(path, quality=90)
    return root


def blocks(loader: Any, num_batches: int) -> Block:
    """Return a block that iterates over a loader's batches, epoch after epoch."""

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    stream = endless()

    def block() -> int:
        return sum(_size(next(stream)) for _ in range(num_batches))

    return block


def _size(batch: Any) -> int:
    return len(batch["index"] if isinstance(batch, dict) else batch[0])


def ours(data: ImageDataModule, num_batches: int) -> Block:
    """Return a block of training batches."""
    return blocks(data.train_dataloader(), num_batches)


def bare(paths: list[Path], read: Callable[[Path], object]) -> Block:
    """Return a block that reads all files."""

    def block() -> int:
        for path in paths:
            read(path)
        return len(paths)

    return block


def load(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def take_turns(ways: dict[str, Block], rounds: int) -> dict[str, float]:
    """Return the median of images per second of CPU time for each variant."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, block in ways.items():
            begin = time.process_time()
            images = block()
            speed = images / (time.process_time() - begin)
            if number:  # the first block warms up
                speeds[name].append(speed)
    return {name: statistics.median(values) for name, values in speeds.items()}


def from_files(folder: Path, rounds: int) -> None:
    print(
        "| files, 64x64 out of | Pillow, decode only | torchvision.io, decode only | torchvision ImageFolder |",
        end="",
    )
    print(" image_folder | ours / theirs | shards | prepared |")
    print("|---|---|---|---|---|---|---|---|")
    crop = [transforms.Resize(SIZE, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(SIZE)]
    for suffix, size, count, batches in (
        (".jpg", (64, 64), 96, 8),
        (".jpg", (320, 240), 96, 4),
        (".png", (320, 240), 48, 2),
        (".png", (800, 600), 24, 1),
        (".jpg", (1600, 1200), 24, 1),
    ):
        root = fill(folder / "files", suffix, size, count)
        paths = sorted(root.rglob(f"*{suffix}"))[: batches * BATCH]
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            prepare([str(root), str(folder / "prepared"), "--size", str(SIZE), "--workers", "1"])
            shard([str(root), str(folder / "shards"), "--samples", "16"])
        theirs = datasets.ImageFolder(str(root), transforms.Compose([*crop, *SCALE]))
        options: dict[str, Any] = {"size": SIZE, "batch_size": BATCH, "max_bad": 1.0}
        found = take_turns(
            {
                "pillow": bare(paths, load),
                "io": bare(paths, lambda path: decode_image(str(path))),
                "theirs": blocks(DataLoader(theirs, BATCH, shuffle=True), batches),
                "ours": ours(ImageFolder(root, **options), batches),
                "shards": ours(Shards(str(folder / "shards"), **options), batches),
                "prepared": ours(ImageFolder(folder / "prepared", **options), 64),
            },
            rounds,
        )
        cells = [f"{found[name]:,.0f}" for name in ("pillow", "io", "theirs", "ours")]
        last = [f"{found['ours'] / found['theirs']:.2f}", f"{found['shards']:,.0f}", f"{found['prepared']:,.0f}"]
        print("|", " | ".join([f"{suffix[1:].upper()} {size[0]}x{size[1]}", *cells, *last]), "|", flush=True)
        shutil.rmtree(folder)
        folder.mkdir()


def in_memory(folder: Path, rounds: int) -> None:
    print("\n| in memory or drawn | images/s | torchvision's way | ours / theirs |")
    print("|---|---|---|---|")
    files.MEMORY_LIMIT = 2**30
    images = torch.randint(0, 256, (4096, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pad, shift = transforms.Pad(2), transforms.RandomCrop(32, padding=4, padding_mode="reflect")
    root = fill(folder / "files", ".png", (80, 80), 96)
    for path in root.rglob("*.png"):
        path.with_suffix(".txt").write_text("noise")
    pairs = fill(folder / "pairs", ".png", (160, 80), 96)
    options: dict[str, Any] = {"batch_size": BATCH}
    sized = {**options, "size": SIZE}
    varied = {**options, "augmentation": OURS_VARY}

    def arrays(*vary: Any) -> Block:
        dataset = Pictures(images, transforms.Compose([pad, *vary, *SCALE]))
        return blocks(DataLoader(dataset, BATCH, shuffle=True), 16)

    def folders(*vary: Any) -> Block:
        square = transforms.Resize((SIZE, SIZE), transforms.InterpolationMode.BICUBIC)
        dataset = datasets.ImageFolder(str(root), transforms.Compose([square, *vary, *SCALE]))
        return blocks(DataLoader(dataset, BATCH, shuffle=True), 8)

    rows: dict[str, tuple[ImageDataModule, Block | None]] = {
        "digits 32x32": (Digits(**options), None),
        "4,096 greys such as mnist 32x32": (Arrays(images, **options), arrays()),
        "these greys, flipped and shifted": (Arrays(images, **varied), arrays(VARY[0], shift)),
        "image_folder 64x64, kept in memory": (ImageFolder(root, SIZE, **options), folders()),
        "image_folder, flipped and shifted": (ImageFolder(root, SIZE, **varied), folders(*VARY)),
        "captioned_images 64x64": (CaptionedImages(root, **sized), None),
        "paired_images 64x64, halves": (PairedImages(pairs, **sized), None),
        "unpaired_images 64x64": (UnpairedImages(root, **sized), None),
        "photos 64x64": (Photos(**options), None),
        "degraded_images 64x64, noise": (DegradedImages(**options), None),
        "shapes 64x64, first drawn": (Shapes(num_train=100_000_000 // SIZE**2, **options), None),
        "shapes 64x64, kept": (Shapes(num_train=64, **options), None),
        "shapes 64x64, pairs kept": (Shapes(num_train=64, task="paired", **options), None),
    }
    for name, (data, theirs) in rows.items():
        ways = {"ours": ours(data, 16)} | ({"theirs": theirs} if theirs else {})
        with quiet_console():
            found = take_turns(ways, rounds)
        ratio = [f"{found['theirs']:,.0f}", f"{found['ours'] / found['theirs']:.1f}"] if theirs else ["", ""]
        print("|", " | ".join([name, f"{found['ours']:,.0f}", *ratio]), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    files.MEMORY_LIMIT = 0  # so that image_folder reads its files
    with tempfile.TemporaryDirectory() as folder:
        from_files(Path(folder) / "run", options.rounds)
        in_memory(Path(folder) / "run", options.rounds)


if __name__ == "__main__":
    main()
