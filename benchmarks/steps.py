"""Training speed on a CPU: a step of `aigc fit` against a plain fp32 PyTorch loop with the same networks.

    python benchmarks/steps.py [dcgan cyclegan ...] [--precision 32-true bf16-mixed] [--blocks 10] [--threads 1]
    python benchmarks/steps.py fashion fashion64 --data ROOT

The cases are in `cases.py`, with the layer shapes of the reference implementations, and the plain loops in
`plain_loops.py`. Ours runs through Lightning with the callbacks and the log file of `aigc fit`, averages included. Each
has its own process, since `aigc fit` changes how its process keeps memory; they take turns in blocks of steps, and
medians are shown. Before that, both get the same weights and must give the same outputs.

GFLOP are those of a step as counted by torch, multiplications and additions. The share is relative to one large
convolution of the same precision in the same run. Memory is the growth of a separate process over the model's life.
ROOT has the folder FashionMNIST with the published files.
"""

import argparse
import multiprocessing
import statistics
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning.pytorch as pl
import torch
from cases import CASES, Case, batches_of, data_of
from interleaved import WARM_UP, Alternate, Times, block, fit, medians, now
from plain_loops import same_networks
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.memory import keep_memory


class Counter(pl.Callback):
    """Counts the FLOP of the first step."""

    def __init__(self) -> None:
        self.mode = FlopCounterMode(display=False)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Begin."""
        if trainer.global_step == 0:
            self.mode.__enter__()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """End."""
        if trainer.global_step == 1:
            self.mode.__exit__(None, None, None)


class Row(NamedTuple):
    """Measurements: seconds per step, GFLOP per step, and GFLOP/s of a large convolution in each side's precision."""

    ours: Times
    theirs: Times
    our_work: float
    their_work: float
    our_peak: float
    their_peak: float


def peak_rate(dtype: torch.dtype) -> float:
    """Return the GFLOP/s of a large convolution in its fastest memory format."""
    convolution = nn.Conv2d(256, 256, 3, padding=1).to(dtype).to(memory_format=torch.channels_last)
    features = torch.randn(4, 256, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    work = 2 * 9 * 256 * 256 * 4 * 64 * 64
    seconds = []
    with torch.no_grad():
        for _ in range(7):
            began = now()
            convolution(features)
            seconds.append(now().cpu - began.cpu)
    return work * torch.get_num_threads() / statistics.median(seconds[2:]) / 1e9


class PlainProcess:
    """The plain loop of a case in its own process.

    Args:
        name: name of the case.
        root: folder of the data.
    """

    def __init__(self, name: str, root: str | None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, other = spawn.Pipe()
        arguments = (name, root, torch.get_num_threads(), other)
        self.process = spawn.Process(target=serve_plain, args=arguments, daemon=True)
        self.process.start()
        other.close()
        try:
            self.work: float = self.connection.recv()
        except EOFError:
            sys.exit("The plain loop did not start.")

    def block(self) -> Times:
        """Run a block and return the seconds per step."""
        self.connection.send(None)
        times: Times = self.connection.recv()
        return times

    def end(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


def serve_plain(name: str, root: str | None, threads: int, connection: Connection) -> None:
    """Send the GFLOP of a plain loop's step, and then the times of a block on each request."""
    torch.set_num_threads(threads)
    pl.seed_everything(0, verbose=False)
    case = CASES[name]
    data = data_of(case, root)
    plain = case.plain(batches_of(data))
    if case.networks is not None and not same_networks(plain, case.networks(case.model(data.spec)), case.inputs):
        sys.exit("The plain loop has different networks.")
    for network in plain.networks():
        network.train()
    with FlopCounterMode(display=False) as count:
        plain.step()
    connection.send(count.get_total_flops() / 1e9)
    while True:
        try:
            connection.recv()
        except EOFError:  # the end
            return
        connection.send(block(plain.step, case.steps))


def compare(name: str, precision: str, blocks: int, root: str | None) -> Row:
    """Measure a case."""
    keep_memory()
    plain, case = PlainProcess(name, root), CASES[name]
    pl.seed_everything(0, verbose=False)
    data = data_of(case, root)
    counter, alternate = Counter(), Alternate(plain.block, case.steps)
    dtypes = (torch.bfloat16 if precision.startswith("bf16") else torch.float32, torch.float32)
    before = [peak_rate(dtype) for dtype in dtypes]
    max_steps = case.steps * (blocks + WARM_UP)
    fit(case.model(data.spec), data, [counter, alternate], max_steps=max_steps, precision=cast(Any, precision))
    peaks = (statistics.mean([rate, peak_rate(dtype)]) for rate, dtype in zip(before, dtypes, strict=True))
    plain.end()
    works = (counter.mode.get_total_flops() / 1e9, plain.work)
    return Row(medians(alternate.ours), medians(alternate.theirs), *works, *peaks)


def memory(name: str, precision: str, who: str, options: argparse.Namespace) -> float:
    """Return the peak memory growth of a separate process in MB."""
    command = [sys.executable, __file__, name, "--precision", precision, "--memory-of", who]
    command += ["--threads", str(options.threads), *(["--data", options.data] if options.data else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def resident(field: str) -> float:
    """Return the memory of this process in MB, current (VmRSS) or peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def print_memory(case: Case, precision: Any, who: str, root: str | None) -> None:
    """Run a few steps of one side and print what `memory` reads."""
    pl.seed_everything(0, verbose=False)
    data = data_of(case, root)
    data.train_source()
    before = resident("VmRSS")
    if who == "plain":
        plain = case.plain(batches_of(data))
        for _ in range(4):
            plain.step()
    else:
        keep_memory()  # not earlier: memory freed by the data would be kept and not count as growth
        fit(case.model(data.spec), data, [], max_steps=4, precision=precision)
    print(resident("VmHWM") - before)


def line(name: str, precision: str, row: Row, batch_size: int, grown: list[float]) -> str:
    """Format a row of the table."""
    ours, theirs = row.ours, row.theirs
    shares = (row.our_work / ours.cpu / row.our_peak, row.their_work / theirs.cpu / row.their_peak)
    cells = [
        name,
        precision,
        f"{batch_size / ours.cpu:.4g}",
        f"{batch_size / theirs.cpu:.4g}",
        f"**{theirs.cpu / ours.cpu:.2f}**",
        f"{theirs.wall / ours.wall:.2f}",
        f"{row.our_work:.1f}",
        f"{row.their_work:.1f}",
        *(f"{share:.0%}" for share in shares),
        *(f"{megabytes:.0f}" for megabytes in grown),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all but the last two by default")
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="folder that has FashionMNIST")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory-of", choices=["ours", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = options.cases or [name for name, case in CASES.items() if case.spec is not None]
    if unknown := set(names) - set(CASES):
        sys.exit(f"No such case: {', '.join(unknown)}. Choose from {', '.join(CASES)}.")
    if options.memory_of:
        print_memory(CASES[names[0]], options.precision[0], options.memory_of, options.data)
        return
    print(machine_line())
    head = ["model", "precision", "images/s", "plain loop", "ratio", "wall ratio", "GFLOP", "plain", "share"]
    head += ["plain", *([] if options.no_memory else ["MB", "plain"])]
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in names:
        for precision in options.precision:
            row = compare(name, precision, options.blocks, options.data)
            sides = [] if options.no_memory else ["ours", "plain"]
            grown = [memory(name, precision, who, options) for who in sides]
            table.append(line(name, precision, row, CASES[name].batch_size, grown))
            print(f"{table[-1]} peaks {row.our_peak:.0f} and {row.their_peak:.0f} GFLOP/s", flush=True)
    print("\n" + "\n".join(table))


if __name__ == "__main__":
    main()
