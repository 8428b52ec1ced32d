"""Our VAE against pythae's, with no more weights, on the same batches of Fashion-MNIST and for as many steps.

    pip install pythae
    python benchmarks/vae.py ROOT [--steps 1000] [--seeds 2] [--threads 1]

ROOT has the folder FashionMNIST with the published files. pythae's VAE has its residual networks for such images. Runs
take turns: pythae and ours with one seed, then with the next. In each, a plain loop draws the same batches of 64 images
and takes Adam steps. "pythae's objective" is half the squared error of pixels in [0, 1], summed, plus the divergence;
ours has it with a fixed scale of 2 on [-1, 1], and is also run with a learned scale. pythae uses a learning rate of
1e-3, and is also run with the schedule of our configs.

Measured on the first 2,000 test images, with posterior means: mean squared error and PSNR of reconstructions (pixels in
[0, 1]), the divergence in nats per image, and pythae's objective. All are means over the seeds; time is CPU time.
"""

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam

from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.sets.torchvision_sets import FashionMNIST
from aigc_lightning.losses.kullback_leibler import from_standard_normal
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.models.vae import VAE

LATENT_SIZE, BATCH_SIZE = 16, 64
SIZE = 28
LR, WARMUP_STEPS = 2e-3, 50  # of our schedule
WIDTH = 24  # of ours: the largest multiple of 8 with no more weights than pythae's


class Score(NamedTuple):
    """The scores of one run."""

    mse: float
    psnr: float
    divergence: float
    objective: float
    seconds: float


class Rival(ABC):
    """A VAE under comparison."""

    network: nn.Module

    @abstractmethod
    def step(self, images: Tensor) -> None:
        """Take an optimizer step on images (B, 1, H, W) in [0, 1]."""

    @abstractmethod
    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructions of images from their posterior means, and the divergence of each (B,)."""


class Pythae(Rival):
    """Theirs."""

    def __init__(self, steps: int, *, our_schedule: bool) -> None:
        from pythae import models
        from pythae.models.nn.benchmarks.mnist import Decoder_ResNet_AE_MNIST, Encoder_ResNet_VAE_MNIST

        config = models.VAEConfig(input_dim=(1, SIZE, SIZE), latent_dim=LATENT_SIZE)
        self.network: Any = models.VAE(config, Encoder_ResNet_VAE_MNIST(config), Decoder_ResNet_AE_MNIST(config))
        self.optimizer = Adam(self.network.parameters(), lr=LR if our_schedule else 1e-3)
        self.scheduler = warm_cosine(self.optimizer, WARMUP_STEPS, steps) if our_schedule else None

    def step(self, images: Tensor) -> None:
        """Take a step."""
        self.optimizer.zero_grad()
        self.network({"data": images}).loss.backward()
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode."""
        code = self.network.encoder(images)
        divergence = from_standard_normal(code.embedding, code.log_covariance).sum(1)
        return self.network.decoder(code.embedding).reconstruction, divergence


class Ours(Rival):
    """Ours."""

    def __init__(self, steps: int, scale: float | None) -> None:
        spec = ImageSpec(1, SIZE, SIZE)
        self.network: VAE = VAE(
            spec, LATENT_SIZE, WIDTH, scale=scale, lr=LR, warmup_steps=WARMUP_STEPS, schedule_steps=steps
        )
        chosen: Any = self.network.configure_optimizers()
        self.optimizer, self.scheduler = chosen["optimizer"], chosen["lr_scheduler"]["scheduler"]

    def step(self, images: Tensor) -> None:
        """Take a step."""
        self.optimizer.zero_grad()
        found = self.network.bound(images * 2 - 1, torch.randn(len(images), LATENT_SIZE))
        ((found.divergence.sum(1) - found.log_likelihood).mean() / SIZE**2).backward()
        self.optimizer.step()
        self.scheduler.step()

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode."""
        signed = images * 2 - 1
        divergence = self.network.bound(signed, torch.zeros(len(images), LATENT_SIZE)).divergence.sum(1)
        return (self.network.edit(signed) + 1) / 2, divergence


def batches(images: Tensor, steps: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield images[torch.randint(len(images), (BATCH_SIZE,), generator=generator)].float() / 255


def score(rival: Rival, train: Tensor, test: Tensor, steps: int, seed: int) -> Score:
    start = time.process_time()
    for images in batches(train, steps, seed):
        rival.step(images)
    seconds = time.process_time() - start
    rival.network.eval()
    parts = []
    with torch.no_grad():
        for images in (test.float() / 255).split(500):
            output, divergence = rival.reconstruct(images)
            error = (output - images).square().flatten(1)
            parts.append((error.mean(1), psnr(output, images), divergence, 0.5 * error.sum(1) + divergence))
    means = [torch.cat(list(column)).double().mean().item() for column in zip(*parts, strict=True)]
    return Score._make([*means, seconds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    data = FashionMNIST(options.root, size=SIZE)
    train, test = (source.images(range(len(source))) for source in (data.train_source(), data.val_source()))
    rivals: dict[str, Callable[[], Rival]] = {
        "pythae": lambda: Pythae(options.steps, our_schedule=False),
        "pythae, our schedule": lambda: Pythae(options.steps, our_schedule=True),
        "ours, pythae's objective": lambda: Ours(options.steps, scale=2.0),
        "ours": lambda: Ours(options.steps, scale=None),
    }
    found: dict[str, list[Score]] = {name: [] for name in rivals}
    weights = {}
    for seed in range(options.seeds):
        for name, make in rivals.items():
            torch.manual_seed(seed)
            rival = make()
            weights[name] = sum(parameter.numel() for parameter in rival.network.parameters())
            found[name].append(score(rival, train, test[:2000], options.steps, seed))
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
    print(f"\n{options.steps} steps of {BATCH_SIZE} images, {options.seeds} seeds, {options.threads} threads\n")
    print("| VAE | weights | squared error | PSNR, dB | divergence, nats | pythae's objective | ms per step |")
    print("|---|---|---|---|---|---|---|")
    for name, scores in found.items():
        error, decibels, divergence, objective, seconds = (mean(column) for column in zip(*scores, strict=True))
        cells = f"{error:.5f} | {decibels:.2f} | {divergence:.2f} | {objective:.2f}"
        print(f"| {name} | {weights[name]:,} | {cells} | {1000 * seconds / options.steps:.1f} |")


if __name__ == "__main__":
    main()
