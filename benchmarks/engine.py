"""The overhead of the engine: a step of `aigc fit` against a plain PyTorch loop that does the same work.

    python benchmarks/engine.py [--blocks 20] [--threads 1] [--cpu-time] [--case tiny]

Both are timed in one process, in alternating blocks of steps; medians of the blocks are shown. The plain loop has the
same networks, batches, losses, freezing, Adam and averaging, written by hand. Ours runs through Lightning with the
callbacks and the log file of `aigc fit`; grids and checkpoints are disabled, since their cost depends on how often they
are written. A final table compares two processes on two cores with one process on one. `--cpu-time` measures CPU time
instead of wall time, for busy machines.
"""

import argparse
import statistics
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import lightning.pytorch as pl
import torch
from interleaved import WARM_UP, Alternate, Times, block, fit, medians
from torch.nn.functional import softplus
from torch.optim import Adam

from aigc_lightning.core.engine.distributed import PlayersStrategy
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.quiet import quiet_console
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.models.dcgan import DCGAN

CASES = {
    "tiny: 8x8, width 4, batch 8": {"size": 8, "width": 4, "batch": 8, "steps": 100},
    "DCGAN: 64x64, width 64, batch 64": {"size": 64, "width": 64, "batch": 64, "steps": 2},
}


class Pictures(ImageDataModule):
    """Noise of one size, in memory."""

    def __init__(self, size: int, batch_size: int) -> None:
        super().__init__(batch_size)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (max(256, batch_size), 3, size, size), generator=generator).byte()

    @property
    def spec(self) -> ImageSpec:
        """RGB."""
        return ImageSpec(3, *self.images.shape[2:])

    def train_source(self) -> ArraySource:
        """All images."""
        return ArraySource(self.images)

    val_source = train_source


class PlainLoop:
    """The same GAN, written by hand."""

    def __init__(self, model: DCGAN, images: torch.Tensor, batch_size: int) -> None:
        self.generator, self.discriminator = deepcopy(model.generator), deepcopy(model.discriminator)
        self.average = deepcopy(self.generator)
        self.latent_size, self.images, self.batch_size = model.latent_size, images, batch_size
        self.optimizers = [
            Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (self.discriminator, self.generator)
        ]
        self.order: list[torch.Tensor] = []

    def step(self) -> None:
        """Draw a batch and update both networks and the average."""
        if not self.order:
            self.order = list(torch.randperm(len(self.images)).split(self.batch_size))
        real = self.images[self.order.pop()].float().div_(127.5).sub_(1)
        fake = self.generator(torch.randn(len(real), self.latent_size))
        self.generator.requires_grad_(False)
        self.optimizers[0].zero_grad()
        loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake.detach())).mean()
        loss.backward()
        self.optimizers[0].step()
        self.generator.requires_grad_(True)
        self.discriminator.requires_grad_(False)
        self.optimizers[1].zero_grad()
        softplus(-self.discriminator(fake)).mean().backward()
        self.optimizers[1].step()
        self.discriminator.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 0.001)
            for target, source in zip(self.average.buffers(), self.generator.buffers(), strict=True):
                target.copy_(source)


def compare(size: int, width: int, batch: int, steps: int, blocks: int) -> tuple[Times, Times]:
    """Return the median seconds per step of ours and of the plain loop."""
    pl.seed_everything(0, verbose=False)
    data = Pictures(size, batch)
    model = DCGAN(data.spec, width=width)
    plain = PlainLoop(model, data.images, batch)
    alternate = Alternate(lambda: block(plain.step, steps), steps)
    fit(model, data, [alternate], max_steps=steps * (blocks + WARM_UP))
    return medians(alternate.ours), medians(alternate.theirs)


class StepTime(pl.Callback):
    """Records the training time of the first process, without the time to start processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        self.began = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End."""
        if trainer.is_global_zero:
            self.path.write_text(str(time.perf_counter() - self.began))


def images_per_second(processes: int) -> float:
    """Return the speed of 64x64 training with 32 images per process and one core each."""
    pl.seed_everything(0, verbose=False)
    data = Pictures(64, 32)
    model = DCGAN(data.spec, width=32, generator_norm="group", discriminator_norm="group")
    strategy = PlayersStrategy(start_method="forkserver", process_group_backend="gloo") if processes > 1 else "auto"
    with tempfile.TemporaryDirectory() as folder, quiet_console():
        trainer = silent_trainer(
            devices=processes,
            strategy=strategy,
            max_steps=40,
            callbacks=[StepTime(Path(folder) / "seconds")],
            default_root_dir=folder,
            limit_val_batches=0,
        )
        trainer.fit(model, data)
        return 40 * 32 * processes / float((Path(folder) / "seconds").read_text())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--case", default="", help="only cases with this prefix, without the second table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    cases = {name: case for name, case in CASES.items() if name.startswith(options.case)}
    measured = {name: compare(**case, blocks=options.blocks) for name, case in cases.items()}
    rows = {name: [times.cpu if options.cpu_time else times.wall for times in both] for name, both in measured.items()}
    print(f"\n{'step':<36}{'aigc fit':>12}{'plain loop':>12}{'ratio':>8}{'overhead':>12}")
    for name, (ours, theirs) in rows.items():
        print(
            f"{name:<36}{ours * 1e3:>9.2f} ms{theirs * 1e3:>9.2f} ms{ours / theirs:>8.2f}"
            f"{(ours - theirs) * 1e6:>9.0f} us"
        )
    if options.case:
        return
    speeds: dict[int, list[float]] = {processes: [] for processes in (1, 2)}
    for _ in range(3):
        for processes, found in speeds.items():
            found.append(images_per_second(processes))
    one, two = (statistics.median(found) for found in speeds.values())
    print(f"\n1 process {one:.1f} images/s, 2 processes {two:.1f} images/s: efficiency {two / (2 * one):.2f}")


if __name__ == "__main__":
    main()
