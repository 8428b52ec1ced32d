"""Our networks beside those of other projects with as many parameters: training speed and memory on a processor.

    pip install denoising-diffusion-pytorch diffusers timm
    python benchmarks/others.py [--rounds 10] [--steps 2] [--batch 16]

One step is flow matching in fp32 on noise: forward and backward pass and fused AdamW, on one thread. Our network and
the other one of a pair take turns, so that what else the machine does meets both; rates are medians over the rounds, of
processor time. Memory is what the forward pass keeps for the backward pass.

The U-Nets of lucidrains' denoising-diffusion-pytorch (`Unet`, widths 1, 2, 4 times the first) and of diffusers
(`UNet2DModel` as in its unconditional example, narrower) work on pixels; ours takes patches of 2x2 pixels. The
transformer is DiT-S/2 on latents; the other one is built from timm's attention and MLP like the authors' blocks.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from aigc_lightning.core.run.machine import machine_line
from torch import Tensor, nn

from aigc_diffusion.networks import DiT, UNet


class Pair(NamedTuple):
    """Two networks of equal size.

    Args:
        shape: (C, H, W) of their inputs.
        ours: makes our network.
        other: makes the other one.
    """

    shape: tuple[int, int, int]
    ours: Callable[[], nn.Module]
    other: Callable[[], nn.Module]


class OurNetwork(nn.Module):
    """One of our networks, called with states (B, C, H, W) and times (B,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        """Return the prediction."""
        prediction: Tensor = self.network(state, time[:, None])
        return prediction


class TimmDiT(nn.Module):
    """DiT-S/2 without the parts outside of its blocks that take no time."""

    def __init__(self) -> None:
        super().__init__()
        from timm.models.vision_transformer import PatchEmbed

        self.patches = PatchEmbed(32, 2, 4, 384)
        self.time = nn.Sequential(nn.Linear(256, 384), nn.SiLU(), nn.Linear(384, 384))
        self.blocks = nn.ModuleList(TimmBlock(384, 6) for _ in range(12))
        self.last = nn.Linear(384, 16)

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        """Return predictions as tokens in place of images; the loss is taken of these."""
        frequencies = torch.exp(torch.linspace(0, -9.2, 128))
        angles = time[:, None] * frequencies
        condition = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        tokens = self.patches(state)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return nn.functional.pixel_shuffle(self.last(tokens).transpose(1, 2).unflatten(2, (16, 16)), 2)


class TimmBlock(nn.Module):
    """A transformer block with adaLN-Zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        from timm.layers import Mlp
        from timm.models.vision_transformer import Attention

        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.attention = Attention(width, num_heads=heads, qkv_bias=True)
        self.mlp = Mlp(width, 4 * width, act_layer=lambda: nn.GELU(approximate="tanh"))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Return tokens (B, N, D) for tokens (B, N, D) and conditions (B, D)."""
        changes = self.modulation(condition)[:, None].chunk(6, dim=-1)
        for number, layer in enumerate((self.attention, self.mlp)):
            shift, scale, gate = changes[3 * number : 3 * number + 3]
            tokens = tokens + gate * layer(self.norms[number](tokens) * (1 + scale) + shift)
        return tokens


def _lucidrains() -> nn.Module:
    from denoising_diffusion_pytorch import Unet

    network: nn.Module = Unet(dim=16, dim_mults=(1, 2, 4), channels=3)
    return network


class _Diffusers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.network = UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            layers_per_block=2,
            block_out_channels=(16, 32, 64),
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        """Return the prediction."""
        prediction: Tensor = self.network(state, time).sample
        return prediction


def _unet(width: int) -> nn.Module:
    return OurNetwork(UNet(3, width, (1, 2), 1, (1,), "light", patch_size=2))


PAIRS = {
    "lucidrains' U-Net": Pair((3, 32, 32), lambda: _unet(32), _lucidrains),
    "diffusers' U-Net": Pair((3, 32, 32), lambda: _unet(36), _Diffusers),
    "DiT-S/2": Pair((4, 32, 32), lambda: OurNetwork(DiT(4)), TimmDiT),
}


def make_step(network: nn.Module, batch: int, shape: tuple[int, int, int]) -> Callable[[], None]:
    """Return what does one training step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    images, noise = torch.randn(2, batch, *shape)

    def step() -> None:
        times = torch.rand(batch)
        share = times[:, None, None, None]
        loss = (network((1 - share) * images + share * noise, 1000 * times) - (noise - images)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def memory_of(network: nn.Module, batch: int, shape: tuple[int, int, int]) -> float:
    """Return the MiB that the forward pass keeps for the backward pass, the network's own parameters excepted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(torch.randn(batch, *shape), 1000 * torch.rand(batch)).square().mean()
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    loss.backward()
    return found / 2**20


def size_of(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    torch.manual_seed(0)
    print(f"batch {options.batch}, fp32")
    print("| beside | parameters (theirs) | images/s (theirs) | ratio | MiB (theirs) | ratio |")
    print("|---|---|---|---|---|---|")
    for name, pair in PAIRS.items():
        networks: dict[str, Any] = {"ours": pair.ours(), "other": pair.other()}
        steps = {side: make_step(network, options.batch, pair.shape) for side, network in networks.items()}
        seconds: dict[str, list[float]] = {side: [] for side in steps}
        for _ in range(options.rounds):
            for side, step in steps.items():
                began = time.process_time()
                for _ in range(options.steps):
                    step()
                seconds[side].append((time.process_time() - began) / options.steps)
        rates = [options.batch / statistics.median(seconds[side][1:]) for side in ("ours", "other")]
        memory = [memory_of(networks[side], options.batch, pair.shape) for side in ("ours", "other")]
        sizes = [size_of(networks[side]) for side in ("ours", "other")]
        print(
            f"| {name} | {sizes[0]:,} ({sizes[1]:,}) | {rates[0]:.0f} ({rates[1]:.0f}) | {rates[0] / rates[1]:.2f} "
            f"| {memory[0]:.0f} ({memory[1]:.0f}) | {memory[0] / memory[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
