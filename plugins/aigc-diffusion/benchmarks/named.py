"""How many samples of a model with classes a classifier names rightly.

aigc fit --config cnn_digits --run judge
python benchmarks/named.py RUN judge [--num 1000] [--steps 18] [--guidance 1]
"""

import argparse

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
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--guidance", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    model, judge = load(options.run).model, load(options.judge).model
    seeds = range(options.num)
    labels = [seed % model.spec.num_classes for seed in seeds]
    own = {"steps": options.steps, "guidance": options.guidance}
    images = sampled(model, seeds, labels, **own)  # type: ignore[arg-type]  # which has `sample`
    names = torch.cat([judge.classify(part) for part in images.split(500)]).argmax(dim=1)  # type: ignore[operator]
    share = (names.cpu() == torch.tensor(labels)).float().mean().item()
    print(f"{options.run}, {own}: {100 * share:.1f} % of {options.num} named rightly")


if __name__ == "__main__":
    main()
