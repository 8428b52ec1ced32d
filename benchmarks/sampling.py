"""Sampling into files: `aigc sample`, the networks alone, and one image at a time.

    python benchmarks/sampling.py [TARGET] [--num 1000] [--runs 5]

`TARGET` is a run folder, a checkpoint or an exported file; by default, the preset dcgan_digits after one step. The
ways are measured in turn in one process, without its start-up; medians of wall time. One image at a time, each flushed
to disk, is how version 0.1 sampled.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from aigc_lightning.core.chunks import sampled_chunks
from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.pictures import to_picture, to_uint8
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.sample import Wanted, write_samples
from aigc_lightning.inference.sample_archive import write_archive


def networks_alone(target: str, seeds: list[int], folder: Path) -> None:
    """Sample in chunks and write nothing."""
    for _ in sampled_chunks(LoadedModel(target).generator(), seeds, None):
        pass


def one_at_a_time(target: str, seeds: list[int], folder: Path) -> None:
    """Sample each image by itself, and flush its file to disk before the next."""
    loaded = LoadedModel(target)
    for seed in seeds:
        chunks = PngInfo()
        for keyword, value in loaded.text([seed]).items():
            chunks.add_text(keyword, value)
        with replacing(folder / f"{seed:06d}.png") as temporary:
            picture = to_picture(to_uint8(loaded.generator().sample([seed]))[0].cpu())
            picture.save(temporary, format="PNG", pnginfo=chunks)


def as_the_command(target: str, seeds: list[int], folder: Path) -> None:
    """Sample as `aigc sample` does."""
    write_samples(target, Wanted(seeds), folder, with_grid=False, device="cpu")


def into_one_file(target: str, seeds: list[int], folder: Path) -> None:
    """Sample as `aigc sample --out samples.npz` does."""
    write_archive(target, Wanted(seeds), folder / "samples.npz", device="cpu")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", nargs="?")
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(machine_line())
    ways: list[Callable[[str, list[int], Path], None]] = [networks_alone, into_one_file, as_the_command, one_at_a_time]
    times: dict[str, list[float]] = {way.__name__: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        target = options.target or f"{name}/run"
        if options.target is None:
            fit = ["fit", "--config", "dcgan_digits", "--trainer.max_steps", "1", "--run", target]
            subprocess.run([Path(sys.executable).with_name("aigc"), *fit], check=True, capture_output=True)
        for number in range(options.runs + 1):  # the first warms up
            for way in ways:
                folder = Path(name) / f"{number} {way.__name__}"
                folder.mkdir()
                began = time.perf_counter()
                way(target, list(range(options.num)), folder)
                times[way.__name__].append(time.perf_counter() - began)
    print(f"{f'{options.num:,} images':<20}{'seconds':>10}{'relative':>10}")
    alone = statistics.median(times["networks_alone"][1:])
    for way_name, measured in times.items():
        seconds = statistics.median(measured[1:])
        print(f"{way_name.replace('_', ' '):<20}{seconds:>10.2f}{seconds / alone:>10.2f}")


if __name__ == "__main__":
    main()
