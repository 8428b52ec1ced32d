"""What a training step of small U-Nets costs on a processor, by shape.

    python benchmarks/unet.py [--size 28] [--batch 32] [--rounds 10] [--steps 3] [--threads 1]

One step is flow matching in fp32 on grey noise with ten classes: a forward and a backward pass and fused AdamW. The
networks take turns, a few steps each, so that what else the machine does meets all of them; rates are medians over the
rounds, of processor time. Operations are those of convolutions and products of matrices.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from aigc_lightning.core.run.machine import machine_line
from torch.utils.flop_counter import FlopCounterMode

from aigc_diffusion.networks import ConditionedNetwork, Conditions, UNet
from aigc_diffusion.processes import FlowMatching

NETWORKS: dict[str, Callable[[], UNet]] = {
    "light, patches of 2, 24 channels": lambda: UNet(1, 24, (1, 2), 1, (1,), "light", patch_size=2, num_classes=10),
    "light, patches of 2, 32 channels": lambda: UNet(1, 32, (1, 2), 1, (1,), "light", patch_size=2, num_classes=10),
    "ddpm, patches of 2, 32 channels": lambda: UNet(1, 32, (1, 2), 1, (1,), "ddpm", patch_size=2, num_classes=10),
    "ddpmpp, patches of 2, 32 channels": lambda: UNet(1, 32, (1, 2), 1, (1,), "ddpmpp", patch_size=2, num_classes=10),
    "adm, patches of 2, 32 channels": lambda: UNet(1, 32, (1, 2), 1, (1,), "adm", patch_size=2, num_classes=10),
    "light, patches of 4, 64 channels": lambda: UNet(1, 64, (1,), 1, (0,), "light", patch_size=4, num_classes=10),
    "light, pixels, 24 channels": lambda: UNet(1, 24, (1, 2, 2), 1, (2,), "light", num_classes=10),
}


def make_step(network: UNet, batch: int, size: int) -> Callable[[], None]:
    """Return what does one training step."""
    process, optimizer = FlowMatching(), torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    images, noise = torch.randn(2, batch, 1, size, size)
    conditions = Conditions(labels=torch.randint(0, 10, (batch,)))

    def step() -> None:
        times = torch.rand(batch, 1, dtype=torch.float64)
        errors = process.errors(ConditionedNetwork(network, conditions), images, noise, times)
        optimizer.zero_grad()
        errors.mean().backward()
        optimizer.step()

    return step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line())
    torch.manual_seed(0)
    networks = {name: make() for name, make in NETWORKS.items()}
    steps = {name: make_step(network, options.batch, options.size) for name, network in networks.items()}
    operations = {}
    for name, step in steps.items():
        step()
        with FlopCounterMode(display=False) as counter:
            step()
        operations[name] = counter.get_total_flops() / options.batch
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            began = time.process_time()
            for _ in range(options.steps):
                step()
            seconds[name].append((time.process_time() - began) / options.steps)
    print(f"{options.size}x{options.size}, batch {options.batch}, {options.threads} thread(s), fp32")
    print("| network | parameters | MFLOP an image and step | images/s | GFLOP/s |")
    print("|---|---|---|---|---|")
    for name, network in networks.items():
        rate = options.batch / statistics.median(seconds[name])
        size = sum(parameter.numel() for parameter in network.parameters())
        print(
            f"| {name} | {size:,} | {operations[name] / 1e6:.0f} | {rate:.0f} | {rate * operations[name] / 1e9:.0f} |"
        )


if __name__ == "__main__":
    main()
