"""A sheet of half-given held-out images, and what models of one data set make of them.

    python benchmarks/completions.py RUN [RUN ...] [--num 8] [--variants 4] [--out completions.png]

Each row has a held-out image, what the models get of it (the upper half, the rest shown in grey), and run by run its
completions with the seeds 0, 1, ..., which are those of `aigc edit RUN IMAGE --seed 1`. Models with prompts get the
image's caption. The images are evenly spaced among the held-out ones of the first run's data.
"""

import argparse
from pathlib import Path

import torch
from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.checkpoint import load_with_record
from aigc_lightning.core.io.pictures import image_grid, save_png, to_uint8
from aigc_lightning.core.predictions import edited
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.evaluation.image_sets import DataImages


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
    held_out = DataImages(build_data(made["class_path"], made["config"]), "val")
    batch = held_out.batch([place * len(held_out) // options.num for place in range(options.num)])
    given = batch["image"].clone()
    given[:, :, given.shape[2] // 2 :] = 0
    columns = [batch["image"], given]
    for model, _ in loaded:
        for seed in range(options.variants):
            columns.append(edited(model.eval(), batch, "image", seeds=[seed] * options.num).cpu())
    rows = to_uint8(torch.stack(columns, dim=1).flatten(0, 1))
    save_png(image_grid(rows, len(columns)), options.out, {"runs": " ".join(options.runs), "machine": machine_line()})
    print(f"Sheet: {options.out}")


if __name__ == "__main__":
    main()
