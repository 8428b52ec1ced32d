"""How time and memory grow with batch size, resolution, dataset size, number of pictures and number of features.

    python benchmarks/growth.py [--plot docs/images/growth.png]

Each series runs from small to large in its own process with one thread. Time is CPU time. Memory is the process's peak
so far minus its memory before the series began; for a loader process, its current memory. The exponent is the log-log
slope of time: 0 is constant, 1 is linear. "KiB for one more" are the slopes of memory between the last three points:
equal ones mean linear growth.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import lightning.pytorch as pl
import numpy as np
import torch

from aigc_lightning.core.run.machine import machine_line

MIB = 2**20


class Point(NamedTuple):
    """A measurement: amount, seconds and MiB."""

    amount: int
    seconds: float
    memory: float


Measured = Iterator[Point]


def peak() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)


def seconds_of(work: Callable[[], object], times: int = 1) -> float:
    """Return the minimum CPU time of several runs."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


class Steps(pl.Callback):
    """Records the CPU time of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Read the clock."""
        self.times.append(time.process_time())

    @property
    def seconds(self) -> float:
        """Median time of a step."""
        return float(np.median(np.diff(self.times)))


def train(size: int, batch: int, folder: str | None = None) -> tuple[float, float]:
    """Return time and peak memory of a step of DCGAN, with all that `fit` does around it."""
    from aigc_lightning.core.run.silent_trainer import silent_trainer
    from aigc_lightning.data.sets.photos import Photos
    from aigc_lightning.models.dcgan import DCGAN

    data, steps = Photos(size, num_train=4 * batch, batch_size=batch), Steps()
    trainer = silent_trainer(max_steps=3, callbacks=[steps], limit_val_batches=0)
    trainer.fit(DCGAN(data.spec, width=8), data)
    if folder is not None:
        trainer.save_checkpoint(f"{folder}/last.ckpt")
    return steps.seconds, peak()


def batches() -> Measured:
    """DCGAN step at 64x64, by batch size."""
    train(64, 4)
    before = peak()
    for batch in (16, 32, 64, 128):
        seconds, memory = train(64, batch)
        yield Point(batch, seconds, memory - before)


def pixels() -> Measured:
    """DCGAN step with batch size 16, by number of pixels."""
    train(16, 4)
    before = peak()
    for size in (32, 64, 128, 256):
        seconds, memory = train(size, 16)
        yield Point(size * size, seconds, memory - before)


def scenes() -> Measured:
    """First 16 batches of `shapes`, by images in the dataset, including the shuffling of an epoch."""
    from aigc_lightning.data.sets.shapes import Shapes

    def look(num: int) -> None:
        for _ in islice(Shapes(size=32, num_train=num, batch_size=16).train_dataloader(), 16):
            pass

    look(1000)
    before = peak()
    for num in (1000, 10_000, 100_000, 1_000_000):
        yield Point(num, seconds_of(partial(look, num), 2), peak() - before)


def workers() -> Measured:
    """Memory of a loader process, by images in the dataset."""
    from aigc_lightning.data.sets.shapes import Shapes

    for num in (1000, 1_000_000):
        data = Shapes(size=32, num_train=num, batch_size=16, num_workers=1)
        begin = time.process_time()
        stream = iter(data.train_dataloader())
        for _ in islice(stream, 16):
            pass
        (worker,) = multiprocessing.active_children()
        held = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * resource.getpagesize()
        yield Point(num, time.process_time() - begin, held / MIB)
        stream.close()
        worker.terminate()
        worker.join()


def pictures() -> Measured:
    """`aigc sample`, by number of pictures."""
    from aigc_lightning.inference.sample import Wanted, write_samples

    with tempfile.TemporaryDirectory() as folder:
        train(32, 4, folder)
        seeds = list(range(800))

        def sample(num: int) -> None:
            write_samples(
                f"{folder}/last.ckpt", Wanted(seeds[:num]), Path(folder) / str(num), with_grid=False, device="cpu"
            )

        sample(10)
        before = peak()
        for num in (50, 100, 200, 400, 800):
            yield Point(num, seconds_of(partial(sample, num)), peak() - before)


def _features(num: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(1000, 128, generator=generator) for _ in range(num // 1000))


def distances() -> Measured:
    """Frechet distance of streamed features, by number of images."""
    from aigc_lightning.metrics.frechet import frechet_distance
    from aigc_lightning.metrics.moments import Moments

    def score(num: int) -> None:
        moments = Moments.empty(128)
        for features in _features(num):
            moments = moments.add(features)
        frechet_distance(moments, moments)

    score(1000)
    before = peak()
    for num in (5000, 10_000, 20_000, 40_000):
        yield Point(num, seconds_of(partial(score, num), 2), peak() - before)


def manifolds() -> Measured:
    """Precision and recall, which compare all pairs, by number of images."""
    from aigc_lightning.metrics.manifold import precision_recall

    def score(num: int) -> None:
        features = torch.cat(list(_features(num)))
        precision_recall(features, features.flip(0))

    score(1000)
    before = peak()
    for num in (2000, 4000, 8000):
        yield Point(num, seconds_of(partial(score, num)), peak() - before)


#: By name: the measurement and the quantity that grows.
SERIES: dict[str, tuple[Callable[[], Measured], str]] = {
    "batch": (batches, "images in a batch"),
    "resolution": (pixels, "pixels of an image"),
    "dataset": (scenes, "images in the dataset"),
    "loader process": (workers, "images in the dataset"),
    "sample": (pictures, "pictures made"),
    "Frechet distance": (distances, "features"),
    "precision and recall": (manifolds, "features"),
}


def exponent(points: list[Point]) -> float:
    """Return the log-log slope of time by amount, over the upper half of the points."""
    half = points[(len(points) - 1) // 2 :]
    logarithms = np.log([(point.amount, point.seconds) for point in half])
    return float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])


def added(first: Point, last: Point) -> float:
    """Return the additional memory of one more item, in KiB."""
    return 1024 * (last.memory - first.memory) / (last.amount - first.amount)


def plot(found: dict[str, list[Point]], path: Path) -> None:
    """Plot time and memory of the series with more than two points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    found = {name: points for name, points in found.items() if len(points) > 2}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(found))
    for column, (name, points) in enumerate(found.items()):
        amounts = [point.amount for point in points]
        for row, values in enumerate(([point.seconds for point in points], [point.memory for point in points])):
            axis = axes[row][column]
            axis.plot(amounts, values, "o-", color="#2a6f97", markersize=3, linewidth=1.2)
            axis.set_ylim(0, max(*values, 1e-9 if row == 0 else 10) * 1.1)
            axis.set_xlim(0, None)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            axis.xaxis.set_major_formatter(EngFormatter())
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.25)
        axes[0][column].set_title(name, fontsize=9)
        axes[1][column].set_xlabel(SERIES[name][1], fontsize=8)
    axes[0][0].set_ylabel("seconds", fontsize=8)
    axes[1][0].set_ylabel("MiB added", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def measure(name: str) -> None:
    torch.set_num_threads(1)
    from aigc_lightning.core.run.quiet import quiet_console

    with quiet_console(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        points = list(SERIES[name][0]())
    print(json.dumps(points))


def table(found: dict[str, list[Point]]) -> None:
    print("| | from | to | seconds | exponent | MiB | KiB for one more |")
    print("|---|---|---|---|---|---|---|")
    for name, points in found.items():
        first, last = points[0], points[-1]
        steps = [f"{added(*pair):.3g}" for pair in pairwise(points[-3:])]
        print(
            f"| {name} | {first.amount:,} | {last.amount:,} {SERIES[name][1]} "
            f"| {first.seconds:.3f} to {last.seconds:.3f} | {exponent(points):.2f} "
            f"| {first.memory:.0f} to {last.memory:.0f} | {', then '.join(steps)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    print(machine_line())
    found: dict[str, Any] = {}
    for name in SERIES:
        command = [sys.executable, __file__, "--measure", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = [Point(*point) for point in json.loads(done.stdout.splitlines()[-1])]
    table(found)
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
