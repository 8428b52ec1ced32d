"""The effect of bf16 on this machine's CPU: a training step of presets in bf16-mixed against one in 32-true.

    python benchmarks/precision.py [dcgan_digits vae_digits=20 ...] [--blocks 3] [--threads 1] [--data ROOT]

Each preset is trained in blocks of steps (the number after "=", by default 8) that alternate between the two
precisions; shown are medians of CPU time per step. ROOT has the folder FashionMNIST, for presets that need it. Because
of these results, `trainer.precision auto` selects bf16-mixed on CPUs with AVX-512 BF16.
"""

import argparse
import statistics
import time

import lightning.pytorch as pl
import torch
import yaml
from interleaved import fit

from aigc_lightning import plugins
from aigc_lightning.config import short_names
from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.rebuilding import with_dataclasses
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.base import ImageDataModule

PRESETS = ("dcgan_digits", "vae_digits", "cnn_digits", "autoencoder_photos", "pix2pix_shapes", "cyclegan_shapes")


class Timer(pl.Callback):
    """Times steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_train_batch_start(self, *_: object) -> None:
        """Begin."""
        self.began = time.process_time()

    def on_train_batch_end(self, *_: object) -> None:
        """End."""
        self.seconds.append(time.process_time() - self.began)


def built(preset: str, root: str | None) -> tuple[pl.LightningModule, ImageDataModule]:
    """Return the model and the data of a preset."""
    config = yaml.safe_load(plugins.find_preset(preset).read_text())
    given = dict(config["data"].get("init_args") or {})
    if root and "mnist" in preset:
        given["root"] = root
    data = build_data(plugins.find("data", config["data"]["class_path"]).class_path, given)
    model = plugins.find("model", config["model"]["class_path"]).load()
    model = model(data.spec, **with_dataclasses(model, config["model"].get("init_args") or {}))
    if isinstance(model, AdversarialModel):
        model.engine = Engine(**(config.get("engine") or {}))
    model.ema_settings = Ema(**(config.get("ema") or {}))
    return model, data


def compare(preset: str, steps: int, blocks: int, root: str | None) -> dict[str, float]:
    """Return the median seconds per step by precision; the first block of each is a warm-up."""
    model, data = built(preset, root)
    found: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
    for block in range(blocks + 1):
        for precision, seconds in found.items():
            timer = Timer()
            fit(model, data, [timer], max_steps=steps, precision=precision)
            if block:
                seconds += timer.seconds[1:]
    return {precision: statistics.median(seconds) for precision, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("presets", nargs="*", default=PRESETS)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="folder that has FashionMNIST")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    short_names.limit()
    table = ["| preset | 32-true | bf16-mixed | speedup |", "|---|---|---|---|"]
    for argument in options.presets:
        preset, _, steps = argument.partition("=")
        full, half = compare(preset, int(steps or 8), options.blocks, options.data).values()
        table.append(f"| `{preset}` | {full * 1e3:.1f} ms | {half * 1e3:.1f} ms | {full / half:.2f} |")
    print("\n" + "\n".join(table))


if __name__ == "__main__":
    main()
