"""Inference: the networks of this package against spandrel's, with the same weights, on one thread.

    python benchmarks/against_spandrel.py [rrdb rcan swinir] [--size 64] [--rounds 7]

Both get the same image of `--size` squared pixels, as a model of each library gets it: ours from `sr`, in the format
that it keeps its weights in, spandrel's from the module that it builds. They take turns; the table has medians of CPU
time per call, the megapixels of the result per second, and the largest difference of the results. Needs the extra
`spandrel`, which has no EDSR.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from importlib import import_module

import torch
from aigc_lightning import ImageSpec
from aigc_lightning.core.run.machine import machine_line
from torch import Tensor, nn

from aigc_restore.models.sr import SuperResolution
from aigc_restore.networks.swinir import SwinIR

_SCALE = 4
_SWINIR_MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)  # what spandrel's SwinIR subtracts


def spandrel_network(name: str) -> nn.Module:
    """Return spandrel's network for x4, of the size of ours by default."""
    root = "spandrel.architectures"
    if name == "rrdb":
        return import_module(f"{root}.ESRGAN.__arch.RRDB").RRDBNet(scale=_SCALE)  # type: ignore[no-any-return]
    if name == "rcan":
        return import_module(f"{root}.RCAN.__arch.rcan_arch").RCAN(scale=_SCALE, norm=False)  # type: ignore[no-any-return]
    depths: dict[str, object] = {"depths": [6] * 6, "num_heads": [6] * 6, "embed_dim": 180}
    return import_module(f"{root}.SwinIR.__arch.SwinIR").SwinIR(  # type: ignore[no-any-return]
        upscale=_SCALE, img_size=64, window_size=8, mlp_ratio=2, upsampler="pixelshuffle", **depths
    )


def parameters(network: nn.Module) -> Iterator[Tensor]:
    """Yield our parameters in the order of spandrel's."""
    if not isinstance(network, SwinIR):
        yield from network.parameters()
        return
    assert network.before_upsampling is not None
    yield from (*network.head.parameters(), *network.first_norm.parameters())
    for block in network.blocks:
        for layer in block.layers:  # type: ignore[union-attr]
            attention = layer.attention  # type: ignore[union-attr]
            yield from (*layer.norm_1.parameters(), attention.bias)  # type: ignore[union-attr, misc]
            for part in (
                attention.query_key_value,
                attention.projection,
                layer.norm_2,
                layer.expansion,
                layer.reduction,
            ):  # type: ignore[union-attr]
                yield from part.parameters()  # type: ignore[union-attr]
        yield from block.convolution.parameters()  # type: ignore[union-attr]
    for part in (network.last_norm, network.body_end, network.before_upsampling, network.upsampling, network.last):
        yield from part.parameters()


def pair(name: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return our network and spandrel's as functions of an image."""
    spec = ImageSpec(3, 64, 64, task="restoration", scale=_SCALE)
    model = SuperResolution(spec, name, residual=False)  # type: ignore[arg-type]
    ours, theirs = model.generator.eval(), spandrel_network(name).eval()
    with torch.no_grad():
        for target, source in zip(theirs.parameters(), parameters(ours.network), strict=True):
            target.copy_(source)
    if name != "swinir":
        return model._enlarged, theirs
    return model._enlarged, lambda images: theirs(images + _SWINIR_MEAN) - _SWINIR_MEAN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["rrdb", "rcan", "swinir"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    print(
        "| network, x4 | ours, s | spandrel, s | ratio | megapixels/s | largest difference |\n|---|---|---|---|---|---|"
    )
    for name in options.networks:
        torch.manual_seed(0)
        functions = pair(name)
        image = torch.rand(1, 3, options.size, options.size)
        seconds: tuple[list[float], list[float]] = ([], [])
        results: list[Tensor] = [image, image]
        with torch.inference_mode():
            for _ in range(options.rounds + 1):
                for number, function in enumerate(functions):
                    start = time.process_time()
                    results[number] = function(image)
                    seconds[number].append(time.process_time() - start)
        ours, theirs = (statistics.median(times[1:]) for times in seconds)  # without the first, which allocates
        difference = float((results[0] - results[1]).abs().max() / results[1].abs().max())
        speed = _SCALE**2 * options.size**2 / ours / 1e6
        print(
            f"| {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} | {speed:.3f} | {difference:.1e} |", flush=True
        )


if __name__ == "__main__":
    main()
