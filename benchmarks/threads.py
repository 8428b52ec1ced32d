"""What the second thread gains on a CPU: training steps of presets with one thread and with two.

    python benchmarks/threads.py [dcgan_digits vae_digits=20 ...] [--threads 1 2] [--blocks 5] [--data ROOT]

Each preset is trained in one process, in blocks of steps (the number after "=", by default 8) that alternate between
the numbers of threads; shown are images per second, by the median of the blocks' wall times. Threads wait for each
other as they do in `aigc fit`. All presets for CPUs are measured if none is named; those of models of tokens need the
run of their tokenizer in `runs`. ROOT has the folder FashionMNIST, for presets that need it. Nothing else should be
running.
"""

from aigc_lightning.core.run.waiting import limit_spinning

limit_spinning()  # before torch is imported

import argparse  # noqa: E402
import statistics  # noqa: E402
from collections.abc import Sequence  # noqa: E402

import lightning.pytorch as pl  # noqa: E402
import torch  # noqa: E402
from interleaved import WARM_UP, fit, now, since  # noqa: E402
from precision import built  # noqa: E402

from aigc_lightning import plugins  # noqa: E402
from aigc_lightning.config import short_names  # noqa: E402
from aigc_lightning.core.run.machine import machine_line  # noqa: E402
from aigc_lightning.core.run.memory import keep_memory  # noqa: E402
from aigc_lightning.errors import UserError  # noqa: E402


class Turns(pl.Callback):
    """Times blocks of steps with numbers of threads that take turns.

    Args:
        threads: the numbers.
        steps: of a block.
    """

    def __init__(self, threads: Sequence[int], steps: int) -> None:
        self.seconds: dict[int, list[float]] = {number: [] for number in threads}
        self.threads, self.steps, self.done = threads, steps, 0
        torch.set_num_threads(threads[0])
        self.began = now()

    def on_train_batch_end(self, *_: object) -> None:
        """Close a block, and begin that of the next number of threads."""
        self.done += 1
        if self.done % self.steps:
            return
        blocks = self.done // self.steps
        self.seconds[self.threads[(blocks - 1) % len(self.threads)]].append(since(self.began, self.steps).wall)
        torch.set_num_threads(self.threads[blocks % len(self.threads)])
        self.began = now()

    def medians(self) -> list[float]:
        """Return the seconds per step with each number of threads, by all blocks but the first."""
        return [statistics.median(seconds[WARM_UP:]) for seconds in self.seconds.values()]


def measured(preset: str, steps: int, blocks: int, threads: Sequence[int], root: str | None) -> str:
    """Return the row of a preset."""
    try:
        model, data = built(preset, root)
        turns = Turns(threads, steps)
        max_steps = steps * (blocks + WARM_UP) * len(threads)
        fit(model, data, [turns], max_steps=max_steps, precision="32-true")
    except UserError as error:  # such as data or a run that are not there
        return f"| `{preset}` | {error.what} |"
    rates = [data.batch_size / seconds for seconds in turns.medians()]
    shown = [f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" for rate in rates]
    return f"| `{preset}` | {' | '.join(shown)} | {rates[-1] / rates[0]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("presets", nargs="*", help="names, with =STEPS; all for CPUs by default")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--data", help="folder that has FashionMNIST")
    options = parser.parse_args()
    print(machine_line())
    keep_memory()
    short_names.limit()
    numbers = " | ".join(f"{number} thread{'s' * (number > 1)}" for number in options.threads)
    print(f"| images/s | {numbers} | gain |\n|---|{'---|' * len(options.threads)}---|")
    for argument in options.presets or [name for name, *_ in plugins.presets() if not name.endswith("_gpu")]:
        preset, _, steps = argument.partition("=")
        print(measured(preset, int(steps or 8), options.blocks, options.threads, options.data), flush=True)


if __name__ == "__main__":
    main()
