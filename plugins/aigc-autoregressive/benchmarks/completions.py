"""A sheet of half-given held-out images and what models of one data set make of them.

    python benchmarks/completions.py RUN [RUN ...] [--num 8] [--variants 4] [--out completions.png]

Each row has a held-out image, what the models are given of it (the upper half; the rest is shown as grey) and then, run
by run, its completions with the seeds 0, 1, ... by `edit`, as `aigc edit RUN IMAGE --seed 1` makes them. Images are
chosen evenly from the held-out ones of the first run's data, one class after the other where there are classes.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.checkpoint import load_with_record
from aigc_lightning.core.io.pictures import image_grid, save_png, to_uint8
from aigc_lightning.core.run.folder import find_checkpoint
from torch import Tensor


def chosen(source: Any, num: int) -> list[int]:
    """Return the numbers of `num` images: of classes 0, 1, ... in turn, or evenly spaced."""
    labels = source.labels(range(len(source)))
    if labels is None:
        return [place * len(source) // num for place in range(num)]
    classes = sorted(set(labels.tolist()))
    by_class = [(labels == label).nonzero().flatten().tolist() for label in classes]
    return [by_class[place % len(classes)][place // len(classes)] for place in range(num)]


def sheet(images: Tensor, models: list[Any], variants: int) -> Tensor:
    """Return the rows of the sheet one after the other, (num * (2 + runs * variants), C, H, W) in [-1, 1]."""
    given = images.clone()
    given[:, :, images.shape[2] // 2 :] = 0
    columns = [images, given]
    for model in models:
        columns += [model.edit(images, seeds=[seed] * len(images)).cpu() for seed in range(variants)]
    return torch.stack(columns, dim=1).flatten(0, 1)


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("completions.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = [load_with_record(find_checkpoint(run)) for run in options.runs]
    made = loaded[0][1]["data"]
    source = build_data(made["class_path"], made["config"]).val_source()
    images = source.images(chosen(source, options.num)).float() / 127.5 - 1
    rows = sheet(images, [model.eval() for model, _ in loaded], options.variants)
    save_png(image_grid(to_uint8(rows), len(rows) // options.num), options.out, {})


if __name__ == "__main__":
    main()
