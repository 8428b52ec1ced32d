"""Training speed on a GPU: a step of `aigc fit` against a plain fp32 PyTorch loop with the same networks.

    python benchmarks/gpu.py [dcgan cyclegan ...] [--precision 32-true bf16-mixed] [--blocks 10] [--no-compile] [--cpu]

The cases are those of `cases.py`; `steps.py` verifies that both sides have the same networks. Ours runs as `aigc fit`
does on a GPU: TF32 products, cuDNN's search for the fastest convolutions, pinned batches; the plain loop uses torch's
defaults. Both run in one process, in alternating blocks of steps, and the clock is read after the GPU has finished;
medians are shown.

Share: the arithmetic throughput of a step, relative to one large convolution of the same precision in the same run.
Waiting: the fraction of a step in which the host fetched the batch; the GPU computes meanwhile, so this is the most
that faster data could gain. `--cpu` runs a few steps on the CPU, to check that everything works.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from cases import CASES, Case, Noise
from interleaved import WARM_UP, Alternate, block, fit, medians, now
from plain_loops import Batch
from steps import Counter
from torch import nn

from aigc_lightning.callbacks.compiled import Compiled
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.training.precision import fast_products

SECONDS_OF_A_BLOCK = 0.5


class Waiting(pl.Callback):
    """Measures how long the host takes to fetch batches."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.ended = 0.0

    def on_train_batch_start(self, *_: object) -> None:
        """Stop the clock between two steps."""
        if self.ended:
            self.seconds.append(time.perf_counter() - self.ended)

    def on_train_batch_end(self, *_: object) -> None:
        """Start it; this callback is the last, so that no other is counted."""
        self.ended = time.perf_counter()


class Row(NamedTuple):
    """Wall seconds per step, fraction of the peak, fraction spent waiting, and device memory in MB."""

    ours: float
    theirs: float
    share: float
    waiting: float
    memory: float


class Bench:
    """Measures cases on a device.

    Args:
        accelerator: "gpu" or "cpu".
        blocks: number of blocks of steps.
    """

    def __init__(self, accelerator: str, blocks: int) -> None:
        self.accelerator, self.blocks = accelerator, blocks
        self.device = torch.device("cuda" if accelerator == "gpu" else "cpu")

    def settle(self) -> None:
        """Wait until the device has finished."""
        if self.accelerator == "gpu":
            torch.cuda.synchronize()

    def peak(self, precision: str) -> float:
        """Return the GFLOP/s of a large convolution."""
        count, channels, size = (64, 512, 32) if self.accelerator == "gpu" else (4, 64, 32)
        convolution = nn.Conv2d(channels, channels, 3, padding=1, device=self.device)
        features = torch.randn(count, channels, size, size, device=self.device)
        half = precision == "bf16-mixed"
        if half:  # convert weights and features once, as autocast does
            convolution, features = convolution.bfloat16(), features.bfloat16()
        convolution = convolution.to(memory_format=torch.channels_last)
        features = features.contiguous(memory_format=torch.channels_last)
        seconds = []
        with torch.no_grad():
            for _ in range(12):
                self.settle()
                began = now()
                for _ in range(10):
                    convolution(features)
                self.settle()
                seconds.append((now().wall - began.wall) / 10)
        work = 2 * 9 * channels**2 * count * size**2
        return work / statistics.median(seconds[2:]) / 1e9

    def compare(self, case: Case, precision: Any, compiled: bool) -> Row:
        """Measure a case."""
        pl.seed_everything(0, verbose=False)
        assert case.spec is not None
        data = Noise(case.spec, case.batch_size)
        with self.device:  # where its layers and random numbers are created
            plain = case.plain(self.batches(data))
        waiting, steps = Waiting(), self.steps_of(plain.step)
        run = self.on_device(plain.step)
        turns = Alternate(lambda: block(run, steps, self.settle), steps, self.settle)
        kind: list[pl.Callback] = [Compiled()] if compiled else []
        options = {"precision": precision, "accelerator": self.accelerator, "benchmark": self.accelerator == "gpu"}
        work = self.work(case, data, options)
        if self.accelerator == "gpu":
            torch.cuda.reset_peak_memory_stats()
        with fast_products():
            max_steps = steps * (self.blocks + WARM_UP)
            fit(case.model(data.spec), data, [*kind, turns, waiting], max_steps=max_steps, **options)
        memory = torch.cuda.max_memory_allocated() / 2**20 if self.accelerator == "gpu" else 0.0
        ours, theirs = medians(turns.ours).wall, medians(turns.theirs).wall
        share = work / ours / self.peak(precision)
        return Row(ours, theirs, share, statistics.median(waiting.seconds) / ours, memory)

    def work(self, case: Case, data: Noise, options: dict[str, Any]) -> float:
        """Return the GFLOP of one of our steps without compilation: torch cannot count inside compiled code."""
        counter = Counter()
        fit(case.model(data.spec), data, [counter], max_steps=2, **options)
        return counter.mode.get_total_flops() / 1e9

    def steps_of(self, step: Callable[[], None]) -> int:
        """Return the number of steps in a block that is long enough to be timed."""
        if self.accelerator == "cpu":
            return 1
        run = self.on_device(step)
        block(run, 5, self.settle)  # warms up
        return max(1, round(SECONDS_OF_A_BLOCK / block(run, 5, self.settle).wall))

    def on_device(self, step: Callable[[], None]) -> Callable[[], None]:
        """Return a plain loop's step that draws its random numbers on the device."""

        def run() -> None:
            with self.device:
                step()

        return run

    def batches(self, data: Noise) -> Callable[[], Batch]:
        """Return a function that draws a batch for the plain loop and copies it to the device."""
        samples = data.samples(data.train_source())

        def draw() -> Batch:
            with torch.device("cpu"):
                batch = samples.__getitems__(torch.randint(len(samples), (data.batch_size,)).tolist())
            return {key: value.to(self.device) for key, value in batch.items() if isinstance(value, torch.Tensor)}

        return draw


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help="cases of cases.py with random images; all by default")
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true", help="skip the rows with compiled networks")
    parser.add_argument("--cpu", action="store_true", help="a few steps on the CPU")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        parser.exit(1, "torch sees no GPU here. Add --cpu to see whether the benchmark works.\n")
    cases = {name: case for name, case in CASES.items() if case.spec is not None}
    if unknown := set(options.cases) - set(cases):
        parser.exit(1, f"No such case: {', '.join(unknown)}. Choose from {', '.join(cases)}.\n")
    bench = Bench("cpu" if options.cpu else "gpu", 2 if options.cpu else options.blocks)
    name = "CPU" if options.cpu else torch.cuda.get_device_name()
    print(f"{name}; {machine_line()}\n")
    head = ["model", "precision", "compiled", "images/s", "plain loop", "ratio", "share", "waiting", "MB"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    for case_name in options.cases or cases:
        case = cases[case_name]
        for precision in options.precision:
            for compiled in (False,) if options.no_compile else (False, True):
                row = bench.compare(case, precision, compiled)
                cells = [case_name, precision, "yes" if compiled else "no"]
                cells += [f"{case.batch_size / seconds:.4g}" for seconds in (row.ours, row.theirs)]
                cells += [f"**{row.theirs / row.ours:.2f}**", f"{row.share:.0%}", f"{row.waiting:.0%}"]
                print(f"| {' | '.join(cells)} | {row.memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
