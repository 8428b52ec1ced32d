"""What a training step of StyleGAN2 costs, and how near the processor's convolutions it comes.

    python benchmarks/stylegan2.py [--size 64] [--batch 4] [--channel-base 16384] [--rounds 3] [--threads 1]
        [--precision 32-true]

Steps run through Lightning as in `aigc fit`, on noise. The lazy schedule of the paper, R1 at each 16th step and path
lengths at each 4th, is shortened to 4 and 2, so that each round of four steps has all kinds of steps; the mean over a
schedule weighs the kinds by the paper's shares. The first round warms up and counts the floating-point operations. The
peak is the best 3x3 convolution of 512 channels at 32x32, in either memory layout, timed before each round. Time is
processor time of the whole process; memory is the most that the process ever had, its libraries included.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.memory import keep_memory
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.testing import NoiseImages
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from aigc_stylegan.stylegan2 import StyleGAN2

KINDS = ("plain", "path lengths", "plain", "path lengths and R1")  # of a round's steps
SHARES = {"plain": 12 / 16, "path lengths": 3 / 16, "path lengths and R1": 1 / 16}  # of the paper's steps


def fastest(run: Callable[[], object], times: int = 3) -> float:
    """Return processor seconds."""
    run()
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


@torch.no_grad()
def peak() -> float:
    """Return the operations a second of a large convolution in float32."""
    features, weight = torch.randn(4, 512, 32, 32), torch.randn(512, 512, 3, 3)
    operations = 2 * features.numel() * 9 * 512
    layouts = (torch.contiguous_format, torch.channels_last)
    pairs = [(features.to(memory_format=layout), weight.to(memory_format=layout)) for layout in layouts]
    return max(operations / fastest(lambda pair=pair: conv2d(*pair, padding=1)) for pair in pairs)


class Operations(TorchDispatchMode):
    """Counts as `torch.utils.flop_counter.FlopCounterMode` does, whose hooks do not allow for second derivatives."""

    total = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and add what it takes."""
        result = operation(*args, **(kwargs or {}))
        count = flop_registry.get(operation.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


class Clock(pl.Callback):
    """Counts the operations of the first round and times the others."""

    def __init__(self) -> None:
        self.operations: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {kind: [] for kind in SHARES}
        self.peaks: list[float] = []
        self.began = 0.0
        self.counter: Operations | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Start the watch, or the counter."""
        if trainer.global_step < len(KINDS):
            self.counter = Operations()
            self.counter.__enter__()
        elif trainer.global_step % len(KINDS) == 0:
            self.peaks.append(peak())
        self.began = time.process_time()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Write down what was seen; the step has been counted by now."""
        seconds, kind = time.process_time() - self.began, KINDS[(trainer.global_step - 1) % len(KINDS)]
        if self.counter is None:
            self.seconds[kind].append(seconds)
            return
        self.counter.__exit__(None, None, None)
        self.operations[kind] = self.counter.total
        self.counter = None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channel-base", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32-true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    pl.seed_everything(0, verbose=False)
    data = NoiseImages(channels=3, height=options.size, width=options.size, batch_size=options.batch)
    model = StyleGAN2(data.spec, channel_base=options.channel_base, r1_every=4, path_length_every=2)
    clock = Clock()
    keep_memory()
    silent_trainer(
        precision=options.precision,
        max_steps=len(KINDS) * (1 + options.rounds),
        callbacks=[clock],
        limit_val_batches=0,
    ).fit(model, data)
    seconds = {kind: statistics.median(found) for kind, found in clock.seconds.items()}
    best = statistics.median(clock.peaks)
    print(f"peak: {best / 1e9:.0f} GFLOP/s; {options.precision}, {options.threads} thread(s), batch {options.batch}")
    print("| step | share | GFLOP | s | share of the peak |")
    print("|---|---|---|---|---|")
    total = {"operations": 0.0, "seconds": 0.0}
    for kind, share in SHARES.items():
        used = clock.operations[kind] / seconds[kind] / best
        print(f"| {kind} | {share:.1%} | {clock.operations[kind] / 1e9:.0f} | {seconds[kind]:.2f} | {used:.0%} |")
        total["operations"] += share * clock.operations[kind]
        total["seconds"] += share * seconds[kind]
    used = total["operations"] / total["seconds"] / best
    print(f"| mean | | {total['operations'] / 1e9:.0f} | {total['seconds']:.2f} | {used:.0%} |")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{options.batch / total['seconds']:.2f} images/s, {memory:.2f} GiB at most")


if __name__ == "__main__":
    main()
