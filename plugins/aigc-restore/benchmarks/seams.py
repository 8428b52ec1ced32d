"""Where results in tiles differ from those of the whole picture, drawn.

    python benchmarks/seams.py [RUN...] [--tile 64] [--size 128] --picture FILE

A part of scikit-image's chelsea is enlarged in one piece and in tiles, cut and blended as `aigc edit --tile` does it,
by three networks: a small `edsr`, whose tiles contain all that a pixel depends on, and a small `rcan` and `swinir`,
whose pixels depend on the whole picture. Their weights are random, scaled so that they change the bicubic enlargement
by ten levels of 8 bits (standard deviation). Runs of sr are drawn after them.

The picture has the part, with the outlines of the tiles, and for each network the absolute difference, amplified so
that the largest is white, but at most four thousand times. The largest difference is written below it.
"""

import argparse
import math
from pathlib import Path
from typing import cast

import torch
from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.core.io.pictures import save_png, to_picture
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.base import to_signed
from aigc_lightning.data.sets.photos import load_photo
from aigc_lightning.inference.tiles import Tiling, apply_in_tiles, equals_whole, free_tiling
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn.functional import interpolate

from aigc_restore.models.sr import SuperResolution
from aigc_restore.networks.choice import Enlarger, make_network

SCALE, PANEL, LINE = 2, 256, 18  # LINE: height of a line of text
CHANGE, MOST = 10.0, 4000.0  # levels; amplification
NETWORKS = {
    "edsr": {"width": 32, "num_blocks": 2},
    "rcan": {"width": 32, "num_groups": 2, "num_blocks": 2, "reduction": 8},
    "swinir": {"width": 32, "depths": [2, 2], "num_heads": [2, 2]},
}


class Drawn:
    """A network, whole and in tiles."""

    def __init__(self, name: str, network: nn.Module, scale: int, multiple: int, reach: float) -> None:
        self.name, self.network = name, network
        self.scale, self.multiple, self.reach = scale, multiple, reach

    def tiling(self, image: Tensor, tile: int) -> Tiling:
        return free_tiling(*image.shape[-2:], self.multiple, tile, self.reach)

    @torch.inference_mode()
    def difference(self, image: Tensor, tile: int) -> Tensor:
        """Return the largest absolute difference of the channels, (S H, S W), in levels of 8 bits."""
        whole = self.network(image[None])[0]
        sizes = {"batch_pixels": tile**2, "scale": self.scale}
        pieces = apply_in_tiles(self.network, image, self.tiling(image, tile), **sizes)  # type: ignore[arg-type]
        return (pieces - whole).abs().amax(dim=0) * 127.5

    def verdict(self, tile: int) -> str:
        return "enough for equal results" if equals_whole(self.reach, tile) else "which may differ"


def random_network(name: str, image: Tensor) -> Drawn:
    torch.manual_seed(0)
    network = make_network(name, 3, SCALE, dict(NETWORKS[name]))
    enlarger = Enlarger(network, SCALE, residual=True).eval()
    last = cast(nn.Conv2d, network.last)
    nn.init.normal_(last.weight)  # they begin at 0, which would show nothing
    with torch.no_grad():
        change = network(image[None])
        last.weight.mul_(CHANGE / 127.5 / change.std())
    reach = math.inf if network.reach is None else float(network.reach)  # type: ignore[arg-type]
    return Drawn(name, enlarger, SCALE, int(getattr(network, "side", 1)), reach)


def trained_network(run: str) -> Drawn:
    model = load_model(run)
    assert isinstance(model, SuperResolution)
    return Drawn(Path(run).name, model.averaged("generator").eval(), model.scale, model.size_multiple, model.reach)


def panel(pixels: Tensor, lines: list[str]) -> Image.Image:
    """Return a picture of uint8 pixels (3, H, W) with lines of text below."""
    shown = to_picture(interpolate(pixels[None], size=(PANEL, PANEL))[0])
    picture = Image.new("RGB", (PANEL, PANEL + LINE * len(lines) + 6), "white")
    picture.paste(shown)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, line in enumerate(lines):
        draw.text((4, PANEL + 2 + LINE * number), line, "black", font)
    return picture


def with_borders(image: Tensor, tiling: Tiling) -> Tensor:
    """Return an image (3, H, W) in [-1, 1] as twice as large uint8 pixels, with the outlines of its tiles."""
    pixels = interpolate(image[None], scale_factor=2, mode="bicubic")[0].add(1).mul(127.5).clamp(0, 255).byte()
    picture = to_picture(pixels)
    draw = ImageDraw.Draw(picture)
    for top in tiling.rows.starts:
        for left in tiling.columns.starts:
            end = 2 * (left + tiling.columns.size) - 1, 2 * (top + tiling.rows.size) - 1
            draw.rectangle([2 * left, 2 * top, *end], outline="white")
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*pixels.shape[1:], 3).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--tile", type=int, default=64, help="pixels")
    parser.add_argument("--size", type=int, default=128, help="pixels of the part of the photograph, up to 300")
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    photo = to_signed(load_photo("chelsea"))
    top, left = (max(side - options.size, 0) // 2 for side in photo.shape[1:])
    image = photo[:, top : top + options.size, left : left + options.size].contiguous()
    networks = [*(random_network(name, image) for name in NETWORKS), *(trained_network(run) for run in options.runs)]
    tiling = networks[0].tiling(image, options.tile)
    panels = [panel(with_borders(image, tiling), [f"{len(tiling)} tiles, which overlap", ""])]
    for network in networks:
        difference = network.difference(image, options.tile)
        largest = float(difference.max())
        words = f"largest difference {largest:.5f} levels"
        print(f"{network.name}, tiles of {options.tile} pixels, {network.verdict(options.tile)}: {words}", flush=True)
        times = min(MOST, 255 / max(largest, 1e-9))
        grey = (difference * times).round().clamp(0, 255).byte().expand(3, -1, -1)
        panels.append(panel(grey, [f"{network.name}, difference x{times:,.0f}", words]))
    sheet = Image.new("RGB", (len(panels) * (PANEL + 8) - 8, panels[0].height), "white")
    for number, part in enumerate(panels):
        sheet.paste(part, (number * (PANEL + 8), 0))
    save_png(sheet.quantize(128), options.picture, {"Description": "differences of tiled and whole results"})


if __name__ == "__main__":
    main()
