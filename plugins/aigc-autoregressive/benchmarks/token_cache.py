"""Training steps from images, which the tokenizer encodes, and from stored tokens (`aigc data encode`).

    python benchmarks/token_cache.py [--batch 64] [--rounds 9]

The models are those of the presets for Fashion-MNIST; their weights are random. One thread; time is processor time of
the whole process, and both kinds of step take turns.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.memory import keep_memory
from aigc_lightning.yaml_file import read_yaml
from image_gpt import seconds
from torch import Tensor

import aigc_autoregressive
from aigc_autoregressive.models.image_gpt import ImageGPTModel
from aigc_autoregressive.models.maskgit import MaskGITModel
from aigc_autoregressive.models.var import VARModel
from aigc_autoregressive.models.vqgan import VQGANModel

SPEC = ImageSpec(1, 28, 28, class_names=tuple("0123456789"))
KINDS = {
    "image_gpt": (ImageGPTModel, "vqgan"),
    "maskgit": (MaskGITModel, "vqgan"),
    "var": (VARModel, "vqgan_multi_scale"),
}


def arguments(stem: str) -> dict[str, Any]:
    """Return the model's arguments of a preset."""
    folder = Path(aigc_autoregressive.__file__).parent / "configs"
    found: dict[str, Any] = read_yaml(folder / f"{stem}_fashion_mnist.yaml")["model"]["init_args"]
    return found


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    keep_memory()  # as `aigc fit` does
    torch.manual_seed(0)
    images, labels = torch.rand(options.batch, *SPEC.shape) * 2 - 1, torch.arange(options.batch) % 10
    print("| model | from images, ms a step | from tokens | images / tokens |\n|---|---|---|---|")
    for name, (kind, stem) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "tokenizer.safetensors"
            tokenizer = VQGANModel(SPEC, **arguments(stem))
            tokenizer.configure_model()
            save_weights(tokenizer, file, {})
            model: Any = kind(SPEC, **{**arguments(name), "tokenizer": str(file)})
        tokens, draws = model.tokens(images), torch.rand(options.batch, model.draws_of_loss)
        optimizer: Any = model.configure_optimizers()["optimizer"]

        def step(tokens: Tensor | None, model: Any = model, draws: Tensor = draws, optimizer: Any = optimizer) -> None:
            found = model.tokens(images) if tokens is None else tokens
            condition = model.network.condition(labels, None)
            model.losses(model.network, found, condition, draws).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        times: list[list[float]] = [[], []]
        for _ in range(options.rounds + 1):  # the first one warms up
            for given, found in zip((None, tokens), times, strict=True):
                found.append(1000 * seconds(lambda given=given, step=step: step(given)))
        first, second = (statistics.median(found[1:]) for found in times)
        print(f"| `{name}` | {first:.0f} | {second:.0f} | {first / second:.2f} |")


if __name__ == "__main__":
    main()
