"""How many samples of a model with classes a classifier names correctly.

    python benchmarks/named.py RUN JUDGE [--num 1000] [--options '{"guidance": 1.5, "top_p": 0.95}']

JUDGE is a run of `cnn` on the same data, such as of the preset cnn_fashion_mnist. The options are those of `sample`.
"""

import argparse
import json
from typing import Any

import torch
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.inference import load


def main() -> None:
    """Print the share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("judge")
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--options", type=json.loads, default={})
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    model: Any = load(given.run).model
    judge: Any = load(given.judge).model
    labels = [seed % model.num_classes for seed in range(given.num)]
    images = sampled(model, range(given.num), labels, **given.options)
    names = torch.cat([judge.classify(part) for part in images.split(500)]).argmax(dim=1)
    share = (names == torch.tensor(labels)).double().mean().item()
    print(f"{given.run}, {given.options}: {100 * share:.1f} % of {given.num} named correctly")


if __name__ == "__main__":
    main()
