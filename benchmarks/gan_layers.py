"""What GANs on CPUs compute otherwise than by torch, against torch, in turns.

    python benchmarks/gan_layers.py [--rounds 30] [--threads 1]

Layers next to images: a transposed convolution to images, and the gradient of images by a convolution, kernel 4 and
stride 2. Spectral norm: a pass and its gradient. Sums over two processes with one thread each, which compute for 10
milliseconds before each, as between two updates: by gloo and by shared memory. Milliseconds are medians of wall time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from aigc_lightning.core.engine.shared_memory import open_shared_memory
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.memory import keep_memory
from aigc_lightning.core.run.processes import run_together
from aigc_lightning.networks.image_convolutions import ImageConv2d, ImageConvTranspose2d
from aigc_lightning.networks.spectral_norm import spectral_norm

WARM_UP = 3  # rounds that are not counted
LAYERS = [(1, 16, 16, 64), (1, 32, 16, 64), (3, 64, 32, 32), (3, 64, 128, 1), (4, 64, 32, 32)]


def turns(torchs: Callable[[], object], ours: Callable[[], object], rounds: int) -> list[float]:
    """Return the median milliseconds of both, which take turns."""
    times: list[list[float]] = [[], []]
    for _ in range(rounds + WARM_UP):
        for way, of_way in zip((torchs, ours), times, strict=True):
            began = time.perf_counter()
            way()
            of_way.append(time.perf_counter() - began)
    return [1e3 * statistics.median(of_way[WARM_UP:]) for of_way in times]


def row(name: str, medians: list[float]) -> str:
    """Return a row of the table."""
    return f"| {name} | {medians[0]:.2f} | {medians[1]:.2f} | {medians[0] / medians[1]:.1f} |"


def layers(rounds: int) -> None:
    """Print the rows of layers next to images, in the layout of DCGAN."""
    for channels, width, side, batch in LAYERS:
        shape = f"{channels} channels, {width} maps of {side}x{side}, batch {batch}"
        maps = torch.empty(batch, width, side, side, memory_format=torch.channels_last).normal_()
        up = ImageConvTranspose2d(width, channels, 4, 2, 1).to(memory_format=torch.channels_last)
        with torch.no_grad():
            medians = turns(partial(nn.ConvTranspose2d.forward, up, maps), partial(up, maps), rounds)
        print(row(f"images, {shape}", medians))
        down = ImageConv2d(channels, width, 4, 2, 1).to(memory_format=torch.channels_last).requires_grad_(False)
        images = torch.randn(batch, channels, 2 * side, 2 * side, requires_grad=True)
        outputs = [nn.Conv2d.forward(down, images), down(images)]
        torchs, ours = (partial(torch.autograd.grad, output, images, maps, retain_graph=True) for output in outputs)
        print(row(f"their gradient, {shape}", turns(torchs, ours, rounds)))


def norms(rounds: int) -> None:
    """Print the rows of spectral norm."""

    def use(layer: nn.Module) -> None:
        cast(Tensor, layer.weight).sum().backward()

    for before, after in ((1, 16), (16, 32), (64, 128)):
        torchs = parametrizations.spectral_norm(nn.Conv2d(before, after, 4))
        ours = spectral_norm(nn.Conv2d(before, after, 4))
        print(
            row(f"spectral norm, {before} to {after} channels", turns(partial(use, torchs), partial(use, ours), rounds))
        )


def sums(rank: int, meeting: Path, rounds: int) -> None:
    """Print the rows of sums, as one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)
    memory = open_shared_memory(timedelta(minutes=5))
    matrix = torch.randn(400, 400)

    def timed(way: Callable[[Tensor], object], numbers: Tensor) -> float:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.01:
            matrix @ matrix
        began = time.perf_counter()
        way(numbers.zero_())
        return time.perf_counter() - began

    for count in (42_993, 117_217, 1_000_000):  # the first two are the networks of dcgan_digits
        times: list[list[float]] = [[], []]
        for _ in range(rounds + WARM_UP):
            for way, of_way in zip((dist.all_reduce, memory.sum_ if memory else dist.all_reduce), times, strict=True):
                of_way.append(timed(way, torch.empty(count)))
        if rank == 0:
            print(row(f"sum of {count:,} numbers", [1e3 * statistics.median(of[WARM_UP:]) for of in times]), flush=True)
    dist.barrier()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    print(machine_line())
    print("| milliseconds | torch | ours | |\n|---|---|---|---|")
    layers(options.rounds)
    norms(options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        run_together(sums, Path(folder) / "meeting", options.rounds, count=2, limit_s=600)


if __name__ == "__main__":
    main()
