"""A training step of `sr` with EDSR against a plain loop with the same network, on one thread.

    python benchmarks/training_step.py [--width 64] [--num_blocks 16] [--scale 4] [--blocks 10] [--precision bf16-mixed]

The plain loop is what BasicSR does in a step: fp32, contiguous memory, Adam, the absolute error, and a moving average
of all weights. Ours runs through Lightning, with the moving average as well, on the same batch of 8 images of 32x32
pixels. Both begin with the same weights and take turns in blocks of three steps; the table has medians of CPU time per
step. Their losses of the same steps are compared. `--precision bf16-mixed` is what `aigc fit` uses on processors with
bf16 instructions; the plain loop stays in fp32.
"""

import argparse
import copy
import statistics
import time
from typing import Any

import lightning.pytorch as pl
import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.run.machine import machine_line
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.optim import Adam
from torch.utils.data import DataLoader

from aigc_restore.models.sr import SuperResolution

_STEPS, _BATCH, _SIDE, _LR, _DECAY, _WARM_UP = 3, 8, 32, 2e-4, 0.999, 2


class PlainBlock(nn.Module):
    """A residual block of EDSR (B, F, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, 1, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = features + self.second(torch.relu(self.first(features)))
        return output


class PlainEDSR(nn.Module):
    """EDSR in the plainest way; the parameters come in the order of ours."""

    def __init__(self, width: int, num_blocks: int, scale: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.Sequential(*(PlainBlock(width) for _ in range(num_blocks)), nn.Conv2d(width, width, 3, 1, 1))
        factors = (2, 2) if scale == 4 else (scale,)
        pairs = [(nn.Conv2d(width, width * factor**2, 3, 1, 1), nn.PixelShuffle(factor)) for factor in factors]
        self.tail = nn.Sequential(*(layer for both in pairs for layer in both), nn.Conv2d(width, 3, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = self.head(images)
        output: Tensor = self.tail(features + self.body(features))
        return output


class PlainLoop:
    """The steps of the plain loop."""

    def __init__(self, network: nn.Module, batch: dict[str, Tensor]) -> None:
        self.network, self.average, self.batch = network, copy.deepcopy(network), batch
        self.optimizer = Adam(network.parameters(), lr=_LR, betas=(0.9, 0.99))
        self.losses: list[float] = []

    def step(self) -> None:
        self.optimizer.zero_grad()
        loss = l1_loss(self.network(self.batch["degraded"]), self.batch["image"])
        loss.backward()
        self.optimizer.step()
        averages = dict(self.average.named_parameters())
        for name, parameter in self.network.named_parameters():
            averages[name].data.mul_(_DECAY).add_(parameter.data, alpha=1 - _DECAY)
        self.losses.append(float(loss.detach()))


class TakingTurns(pl.Callback):
    """Times blocks of the trainer's steps, each followed by a block of the plain loop."""

    def __init__(self, plain: PlainLoop) -> None:
        self.plain = plain
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.losses: list[float] = []
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: pl.Trainer, model: pl.LightningModule, *_: Any) -> None:
        self.losses.append(float(model.pop_recorded()["train/generator_loss"]))  # type: ignore[operator]
        if len(self.losses) % _STEPS:
            return
        middle = time.process_time()
        for _ in range(_STEPS):
            self.plain.step()
        end = time.process_time()
        self.ours.append((middle - self.start) / _STEPS)
        self.theirs.append((end - middle) / _STEPS)
        self.start = time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--num_blocks", type=int, default=16)
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    torch.manual_seed(0)
    large = _SIDE * options.scale
    batch = {
        "degraded": torch.rand(_BATCH, 3, _SIDE, _SIDE) * 2 - 1,
        "image": torch.rand(_BATCH, 3, large, large) * 2 - 1,
        "index": torch.arange(_BATCH),
    }
    size = {"width": options.width, "num_blocks": options.num_blocks}
    spec = ImageSpec(3, large, large, task="restoration", scale=options.scale)
    model = SuperResolution(spec, "edsr", size, residual=False, lr=_LR)
    network = PlainEDSR(options.width, options.num_blocks, options.scale)
    with torch.no_grad():
        for target, source in zip(network.parameters(), model.generator.parameters(), strict=True):
            target.copy_(source)
    turns = TakingTurns(PlainLoop(network, batch))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "precision": options.precision}
    trainer = pl.Trainer(accelerator="cpu", callbacks=[turns], max_steps=_STEPS * options.blocks, **quiet)
    trainer.fit(model, DataLoader([batch] * (_STEPS * options.blocks), batch_size=None))  # type: ignore[arg-type]
    ours, theirs = (statistics.median(times[_WARM_UP:]) for times in (turns.ours, turns.theirs))
    difference = max(abs(a - b) for a, b in zip(turns.losses, turns.plain.losses, strict=True))
    print("| EDSR | ours, s | plain, s | ratio | largest difference of the losses |\n|---|---|---|---|---|")
    name = f"x{options.scale}, {options.num_blocks} blocks of {options.width}"
    print(f"| {name} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.2f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
