"""Image quality of the small U-Nets of other projects after equal processor time, by the judge of `equal_time.py`.

    pip install denoising-diffusion-pytorch diffusers
    python benchmarks/equal_time_others.py --data ROOT --judge RUN --out FOLDER lucidrains:300:1e-3 diffusers:300:1e-3

Each is trained on Fashion-MNIST without classes, 28x28, for the given seconds of processor time of one thread, with the
given peak learning rate, and sampled from the averaged weights. lucidrains' denoising-diffusion-pytorch has its own
losses and `Trainer`'s settings (v prediction, sigmoid schedule, Adam, gradients of norm 1, averages every 10 steps);
diffusers has those of its example of unconditional generation (noise prediction, linear schedule, AdamW). Both samplers
are the projects' own DDIM. Widths are chosen so that there are about as many parameters as in
`diffusion_fashion_mnist`. What both are given beyond their defaults: the learning rate, a warm-up of 50 steps and a
cosine decay that ends with the time, and the same averages of weights.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from equal_time import real_moments
from torch import Tensor, nn

from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.sets.torchvision_sets import FashionMNIST
from aigc_lightning.evaluation import Extractor, find_extractor
from aigc_lightning.metrics import Moments, frechet_distance

SIZE, BATCH, WARM_UP, AT_ONCE = 28, 32, 50, 250
AVERAGE_EVERY, DECAY = 10, 0.995


class Entry(NamedTuple):
    """A row of the table: a project, seconds of processor time, and a peak learning rate."""

    project: str
    seconds: float
    lr: float

    @classmethod
    def read(cls, text: str) -> "Entry":
        """Read PROJECT:SECONDS:RATE."""
        project, seconds, lr = text.split(":")
        return cls(project, float(seconds), float(lr))


class Project(NamedTuple):
    """What is trained, and how images come from it.

    Args:
        model: the network, or the network with its process.
        optimizer: the project's own, with a learning rate that is set in every step.
        loss: of images (B, 1, H, W) in [-1, 1].
        sample: (N, 1, H, W) in [-1, 1] from a model, for a number of images.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor], Tensor]
    sample: Callable[[nn.Module, int], Tensor]


def lucidrains(steps: int) -> Project:
    """Return denoising-diffusion-pytorch's U-Net and process, which samples in a number of steps."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    diffusion = GaussianDiffusion(
        Unet(dim=12, dim_mults=(1, 2, 4), channels=1), image_size=SIZE, timesteps=1000, sampling_timesteps=steps
    )

    def sample(model: Any, count: int) -> Tensor:
        images: Tensor = model.sample(batch_size=count)
        return images * 2 - 1

    optimizer = torch.optim.Adam(diffusion.parameters(), betas=(0.9, 0.99))
    return Project(diffusion, optimizer, lambda images: diffusion((images + 1) / 2), sample)


def diffusers(steps: int) -> Project:
    """Return diffusers' U-Net with the scheduler of its example, which samples in a number of steps."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(12, 24, 48),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000)

    def loss(images: Tensor) -> Tensor:
        noise, times = torch.randn_like(images), torch.randint(0, 1000, (len(images),))
        predicted = network(scheduler.add_noise(images, noise, times), times).sample
        return nn.functional.mse_loss(predicted, noise)

    def sample(model: Any, count: int) -> Tensor:
        ddim = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
        ddim.set_timesteps(steps)
        images = torch.randn(count, 1, SIZE, SIZE)
        with torch.no_grad():
            for now in ddim.timesteps:
                images = ddim.step(model(images, now).sample, now, images).prev_sample
        return images.clamp(-1, 1)

    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.95, 0.999), weight_decay=1e-6)
    return Project(network, optimizer, loss, sample)


PROJECTS = {"lucidrains": lucidrains, "diffusers": diffusers}


def train(project: Project, images: Tensor, entry: Entry) -> tuple[nn.Module, dict[str, float]]:
    """Train for the time and return the averaged model, and steps, seconds and the last loss."""
    averaged = copy.deepcopy(project.model)
    began, steps, recent = time.process_time(), 0, 0.0
    while (spent := (time.process_time() - began) / entry.seconds) < 1:
        warm_up, decay = min(1.0, (steps + 1) / WARM_UP), 0.5 * (1 + math.cos(math.pi * spent))
        for group in project.optimizer.param_groups:
            group["lr"] = entry.lr * warm_up * decay
        loss = project.loss(images[torch.randint(0, len(images), (BATCH,))])
        project.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(project.model.parameters(), 1.0)
        project.optimizer.step()
        steps += 1
        recent += 0.02 * (loss.item() - recent)
        if steps % AVERAGE_EVERY == 0:
            share = min(DECAY, steps / (steps + 10 * AVERAGE_EVERY))  # early averages forget quickly
            with torch.no_grad():
                for mean, weight in zip(averaged.parameters(), project.model.parameters(), strict=True):
                    mean.lerp_(weight, 1 - share)
            if steps % 100 == 0:
                print(f"{entry.project} step {steps}, {100 * spent:.0f} % of the time, loss {recent:.4f}", flush=True)
    return averaged, {"steps": steps, "seconds": time.process_time() - began, "loss": recent}


def score(project: Project, model: nn.Module, judge: Extractor, real: Moments, num: int) -> float:
    """Return the Frechet distance of a number of samples."""
    moments = Moments.empty(judge.num_features)
    for first in range(0, num, AT_ONCE):
        images = project.sample(model, min(AT_ONCE, num - first))
        moments = moments.add(judge(to_uint8(images), with_logits=False).features)
    return frechet_distance(moments, real)


def main() -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("entries", nargs="+", type=Entry.read, metavar="PROJECT:SECONDS:RATE")
    parser.add_argument("--data", required=True, help="folder that has FashionMNIST")
    parser.add_argument("--judge", required=True, help="a run of cnn_fashion_mnist")
    parser.add_argument("--out", type=Path, default=Path("equal_time"), help="folder of results")
    parser.add_argument("--num", type=int, default=10_000, help="images of each row")
    parser.add_argument("--steps", type=int, default=20, help="of the sampler")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    options.out.mkdir(parents=True, exist_ok=True)
    data = FashionMNIST(options.data, size=SIZE)
    images = data.samples(data.train_source()).__getitems__(list(range(60_000)))["image"]
    judge = find_extractor(options.judge)
    real = real_moments(judge, options.data)
    rows = []
    for entry in options.entries:
        torch.manual_seed(options.seed)
        project = PROJECTS[entry.project](options.steps)
        model, spent = train(project, images, entry)
        distance = score(project, model.eval(), judge, real, options.num)
        size = sum(parameter.numel() for parameter in project.model.parameters())
        row = {**entry._asdict(), **spent, "parameters": size, "frechet_distance": distance}
        name = f"{entry.project}-{entry.seconds:g}-{entry.lr:g}-{options.seed}-of-{options.num}-in-{options.steps}"
        (options.out / f"{name}.json").write_text(json.dumps(row))
        rows.append(row)
    print("| project | peak rate | parameters | steps of 32 images | last loss | core-seconds | Frechet distance |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['project']} | {row['lr']:g} | {row['parameters']:,} | {row['steps']} | {row['loss']:.4f} "
            f"| {row['seconds']:.0f} | {row['frechet_distance']:.2f} |"
        )


if __name__ == "__main__":
    main()
