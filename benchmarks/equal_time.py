"""Image quality of presets after equal processor time, by one judge.

    python benchmarks/equal_time.py --data ROOT --judge RUN --out FOLDER dcgan_fashion_mnist:4000 vae_fashion_mnist:3000

Each preset is trained for the given number of steps on one thread; its learning-rate schedule, if it has one, ends with
these. The processor time of the whole command is measured, so choose the steps such that the seconds are equal. Options
of `sample` follow after another colon: diffusion_fashion_mnist:1000:steps=18,guidance=1.5. A result that FOLDER already
has is shown again, so the table can grow.

ROOT has the folder FashionMNIST; RUN is a run of `cnn_fashion_mnist`. Images that were padded to 32x32 lose the padding
again, and all are compared with the first 10,000 training images as published, 28x28. The table has the Frechet
distance of the judge's features, and the share of images in which the judge sees the class that was asked for.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from aigc_lightning.core.capabilities import takes
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.sets.torchvision_sets import FashionMNIST
from aigc_lightning.evaluation import Extractor, find_extractor
from aigc_lightning.inference import load
from aigc_lightning.metrics import Moments, frechet_distance

AT_ONCE = 500
SIZE = 28
REAL = 10_000  # images that all are compared with


class Entry(NamedTuple):
    """A row of the table: a preset or config, its optimizer steps, and options of its `sample`."""

    config: str
    steps: int
    options: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> "Entry":
        """Read CONFIG:STEPS or CONFIG:STEPS:option=value,option=value."""
        config, steps, *rest = text.split(":")
        pairs = [part.split("=") for part in rest[0].split(",")] if rest else []
        return cls(config, int(steps), {name: _value(value) for name, value in pairs})


def _value(text: str) -> int | float | str:
    """Return the number that a text is, or the text, such as the run of a guide."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def train(entry: Entry, options: argparse.Namespace, run: Path) -> float:
    """Train a preset and return the seconds of processor time that it took."""
    command = [sys.executable, "-m", "aigc_lightning", "fit", "--config", entry.config, "--data.root", options.data]
    printed = subprocess.run([*command, "--print_config"], check=True, capture_output=True, text=True).stdout
    if "schedule_steps" in yaml.safe_load(printed)["model"]["init_args"]:
        command += ["--model.schedule_steps", str(entry.steps)]
    command += ["--trainer.max_steps", str(entry.steps), "--seed_everything", str(options.seed), "--run", str(run)]
    before = os.times()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def real_moments(judge: Extractor, root: str) -> Moments:
    """Return the moments of the judge's features of the first training images."""
    data = FashionMNIST(root, size=SIZE)
    samples = data.samples(data.train_source())
    moments = Moments.empty(judge.num_features)
    for first in range(0, REAL, AT_ONCE):
        images = to_uint8(samples.__getitems__(list(range(first, first + AT_ONCE)))["image"])
        moments = moments.add(judge(images, with_logits=False).features)
    return moments


def cropped(images: Tensor) -> Tensor:
    """Return the middle (B, C, 28, 28) of images."""
    height, width = ((size - SIZE) // 2 for size in images.shape[-2:])
    return images[..., height : height + SIZE, width : width + SIZE]


def score(run: Path, entry: Entry, judge: Extractor, real: Moments, num: int) -> dict[str, float | None]:
    """Score the images of the seeds from 0 on, whose classes take turns where the model takes classes."""
    model: Any = load(run).model
    labelled = takes(model.sample, "labels")
    moments, right, began = Moments.empty(judge.num_features), 0, time.process_time()
    for first in range(0, num, AT_ONCE):
        seeds = range(first, min(first + AT_ONCE, num))
        labels = [seed % model.spec.num_classes for seed in seeds]
        images = sampled(model, seeds, labels if labelled else None, **entry.options)
        found = judge(cropped(to_uint8(images)))
        moments = moments.add(found.features)
        assert found.logits is not None
        right += int((found.logits.argmax(dim=1) == torch.tensor(labels)).sum())
    return {
        "frechet_distance": frechet_distance(moments, real),
        "named": right / num if labelled else None,
        "seconds_per_image": (time.process_time() - began) / num,
    }


def result(entry: Entry, judge: Extractor, real: Moments, options: argparse.Namespace) -> dict[str, Any]:
    """Return a row of the table, from its file where that exists."""
    run = options.out / f"{Path(entry.config).stem}-{entry.steps}-{options.seed}"
    trained = options.out / f"{run.name}.json"
    if not trained.exists():
        trained.write_text(json.dumps({"seconds": train(entry, options, run)}))
    suffix = "".join(f"-{name}={value}" for name, value in entry.options.items()).replace(os.sep, "_")
    scored = options.out / f"{run.name}{suffix}-of-{options.num}.json"
    if not scored.exists():
        scored.write_text(json.dumps(score(run, entry, judge, real, options.num)))
    return {**json.loads(trained.read_text()), **json.loads(scored.read_text()), "name": f"{run.name}{suffix}"}


def main() -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("entries", nargs="+", type=Entry.read, metavar="CONFIG:STEPS[:OPTION=VALUE,...]")
    parser.add_argument("--data", required=True, help="folder that has FashionMNIST")
    parser.add_argument("--judge", required=True, help="a run of cnn_fashion_mnist")
    parser.add_argument("--out", type=Path, default=Path("equal_time"), help="folder of runs and results")
    parser.add_argument("--num", type=int, default=10_000, help="images of each row")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    options.out.mkdir(parents=True, exist_ok=True)
    judge = find_extractor(options.judge)
    real = real_moments(judge, options.data)
    rows = [result(entry, judge, real, options) for entry in options.entries]
    print("| preset-steps-seed | training, core-seconds | Frechet distance | named rightly | ms an image |")
    print("|---|---|---|---|---|")
    for row in rows:
        named = "" if row["named"] is None else f"{100 * row['named']:.1f} %"
        shown = (
            f"{row['seconds']:,.0f} | {row['frechet_distance']:.2f} | {named} | {1000 * row['seconds_per_image']:.1f}"
        )
        print(f"| {row['name']} | {shown} |")


if __name__ == "__main__":
    main()
