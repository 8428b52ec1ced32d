"""The cost of checksums in checkpoints and exports, and of writing beside the target instead of via the temp folder.

    python benchmarks/checkpoints.py [--megabytes 500] [--rounds 5] [--folder DIR]

All variants take turns in each round; shown are medians of CPU time and of wall time, which includes the disk.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import Times, now, since
from lightning.fabric.plugins import TorchCheckpointIO
from safetensors.torch import load_file, save_file

from aigc_lightning.callbacks.checkpoints import AtomicCheckpointIO
from aigc_lightning.core.io.checksums import check_archive, read_tensors, write_tensors
from aigc_lightning.core.run.machine import machine_line

LAYERS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(machine_line())
    weights = {f"layer{number}": torch.randn(options.megabytes * 250_000 // LAYERS) for number in range(LAYERS)}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = measured(ways(Path(name), weights), options.rounds)
    print(f"{options.megabytes} MB, CPU and wall seconds")
    for label, times in found.items():
        print(f"{label:<46}{times.cpu:8.2f}{times.wall:8.2f}")


def ways(folder: Path, weights: dict[str, torch.Tensor]) -> dict[str, Callable[[], object]]:
    """Return the variants, ordered such that files are written before they are read."""
    ours, theirs = folder / "ours.ckpt", folder / "lightning.ckpt"
    digest, plain = folder / "digest.safetensors", folder / "plain.safetensors"
    return {
        "write .ckpt, Lightning's way": lambda: TorchCheckpointIO().save_checkpoint(weights, theirs),
        "write .ckpt beside its target, fsync": lambda: AtomicCheckpointIO().save_checkpoint(weights, ours),
        "read .ckpt (torch.load)": lambda: torch.load(ours, weights_only=True),
        "check the CRC-32 of all its entries": lambda: check_archive(ours, ""),
        "write .safetensors": lambda: save_file(weights, plain),
        "write .safetensors with a SHA-256, fsync": lambda: write_tensors(digest, weights, {}),
        "read .safetensors": lambda: {name: tensor.sum() for name, tensor in load_file(plain).items()},
        "read .safetensors and compare its SHA-256": lambda: read_tensors(digest, ""),
    }


def measured(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Return the medians of all variants, which take turns, without the first round."""
    times: dict[str, list[Times]] = {label: [] for label in ways}
    for _ in range(rounds + 1):
        for label, way in ways.items():
            began = now()
            way()
            times[label].append(since(began, 1))
    parts = {label: list(zip(*found[1:], strict=True)) for label, found in times.items()}
    return {label: Times(statistics.median(cpu), statistics.median(wall)) for label, (cpu, wall) in parts.items()}


if __name__ == "__main__":
    main()
