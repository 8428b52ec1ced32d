"""What the conditional random field gains: labels of held-out facades by `pix2pix_facades_labels`.

    python benchmarks/label_maps.py RUN FOLDER [--num 40] [--settings :color_std=0.1] [--picture FILE]

FOLDER holds pairs of halves, a photograph and its labels (.jpg, 512x256), as in `facades/val`. The photographs are
reduced to the size that RUN was trained at, its results are labelled by the nearest colour and, in a second row, by
`--after crf`. Labels are compared with the nearest colours of the label maps: intersection over union of all pixels
of all images, as the mean over the twelve classes, and the share of pixels with the right label. The second column is
of the first half of the images, on which settings may be chosen, the third of the other half.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.core.io.pictures import image_grid, save_png, to_uint8
from aigc_lightning.core.run.machine import machine_line
from PIL import Image
from torch import Tensor

from aigc_restore.label_maps import crf

#: The twelve classes of the CMP facades as pix2pix colours them: background, facade, window, door, cornice, sill,
#: balcony, blind, decoration, moulding, pillar, shop.
COLORS = (
    *("#0000de", "#0030ff", "#0080ff", "#00cfff", "#20ffe0", "#70ff8f", "#c0ff3f", "#fff000", "#ff9f00", "#ff5000"),
    *("#ff0000", "#ae0000"),
)


def palette() -> np.ndarray:
    return np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in COLORS])


def nearest(pixels: np.ndarray) -> np.ndarray:
    """Return the number of the nearest colour of each pixel (H, W, 3)."""
    differences = pixels[:, :, None].astype(int) - palette()
    found: np.ndarray = np.square(differences).sum(axis=3).argmin(axis=2)
    return found


def pairs(folder: Path, size: int, num: int) -> list[tuple[Image.Image, np.ndarray]]:
    """Return photographs of a size and their labels."""
    found = []
    for path in sorted(folder.glob("*.jpg"))[:num]:
        both = Image.open(path).convert("RGB")
        half = both.width // 2
        photo = both.crop((0, 0, half, both.height)).resize((size, size), Image.Resampling.BICUBIC)
        labels = nearest(np.array(both.crop((half, 0, both.width, both.height))))
        step = half // size
        found.append((photo, labels[step // 2 :: step, step // 2 :: step]))
    return found


def scores(predicted: list[np.ndarray], true: list[np.ndarray]) -> tuple[float, float]:
    """Return mean intersection over union of the classes that occur, and the share of right pixels."""
    count = len(COLORS)
    both = np.concatenate([a.ravel() * count + b.ravel() for a, b in zip(true, predicted, strict=True)])
    table = np.bincount(both, minlength=count**2).reshape(count, count)
    right, union = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    return float((right[union > 0] / union[union > 0]).mean()), float(right.sum() / table.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num", type=int, default=40)
    parser.add_argument("--settings", nargs="*", default=[""], help="of the CRF, such as :color_std=0.1:softness=0.4")
    parser.add_argument("--picture", type=Path, help="PNG with columns photograph | network | CRF | labels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    model = load_model(options.run)
    images = pairs(options.folder, model.spec.width, options.num)
    pixels = [torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 127.5 - 1 for photo, _ in images]
    results = [to_uint8(model.edit(image[None]))[0].permute(1, 2, 0).numpy() for image in pixels]  # type: ignore[operator]
    methods = {"nearest colour": [nearest(result) for result in results]}
    for settings in options.settings:
        refine = crf("+".join(COLORS) + settings)
        methods[f"crf{settings}"] = [
            nearest(np.array(refine(Image.fromarray(result), photo)))
            for result, (photo, _) in zip(results, images, strict=True)
        ]
    true, half = [labels for _, labels in images], len(images) // 2
    print("| labels | mean IoU | first half | second half | right pixels |\n|---|---|---|---|---|")
    for name, predicted in methods.items():
        iou, right = scores(predicted, true)
        parts = [scores(predicted[part], true[part])[0] for part in (slice(half), slice(half, None))]
        print(f"| {name} | {iou:.4f} | {parts[0]:.4f} | {parts[1]:.4f} | {right:.4f} |", flush=True)
    if options.picture is not None:
        save_png(image_grid(_shown(images, list(methods.values())), 2 + len(methods)), options.picture, {})


def _shown(images: list[tuple[Image.Image, np.ndarray]], methods: list[list[np.ndarray]]) -> Tensor:
    cells = []
    for number in range(0, len(images), max(1, len(images) // 5)):
        photo, labels = images[number]
        maps = [*(method[number] for method in methods), labels]
        cells += [np.array(photo), *(palette()[one].astype(np.uint8) for one in maps)]
    return torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
