"""A trained network and classical methods fill the same holes of unseen photographs.

    python benchmarks/inpainting.py [RUN] [--num 24] [--picture FILE]

The images are tiles of 96x96 pixels of the two held-out photographs of `photos`, with the masks that `masked_images`
gives held-out images. PSNR (dB) is of the pixels in the holes alone, as a mean over the images, for strokes and boxes
of up to a tenth of the image and of more. Results are rounded to 8 bits. Telea and Navier-Stokes need OpenCV.
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.core.io.pictures import image_grid, save_png
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.sets.photos import Photos
from torch import Tensor

from aigc_restore.data.masked_images import MaskedImages
from aigc_restore.editors.filling import Biharmonic, NavierStokes, Spectral, Telea
from aigc_restore.inpainting.push_pull import push_pull
from aigc_restore.models.inpaint import Inpaint, hole_psnr

Method = Callable[[Tensor, Tensor], Tensor]
KINDS = {"strokes": "irregular", "boxes": "box"}


def held_out(kind: str, num: int) -> tuple[Tensor, Tensor]:
    """Return images and masks, spread over the held-out tiles."""
    data = MaskedImages(Photos(size=96), kinds=[kind], batch_size=1000)  # type: ignore[list-item]
    batch = next(iter(data.val_dataloader()))
    chosen = torch.linspace(0, len(batch["image"]) - 1, min(num, len(batch["image"]))).long()
    return batch["image"][chosen], batch["mask"][chosen]


def scored(method: Method, images: Tensor, masks: Tensor) -> Tensor:
    output = ((method(images, masks) + 1) * 127.5).round() / 127.5 - 1
    return hole_psnr(output, images, masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--num", type=int, default=24, help="images of each kind of mask")
    parser.add_argument("--picture", type=Path, help="PNG with columns degraded | methods | original")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    cpu = torch.device("cpu")
    methods: dict[str, Method] = {"smooth": lambda x, m: push_pull(x, m).clamp(-1, 1)}
    methods |= {"spectral": Spectral(cpu).edit, "biharmonic": Biharmonic(cpu).edit}
    if importlib.util.find_spec("cv2") is not None:
        methods |= {"Telea": Telea(cpu).edit, "Navier-Stokes": NavierStokes(cpu).edit}
    if options.run is not None:
        model = load_model(options.run)
        assert isinstance(model, Inpaint)
        methods["inpaint"] = model.edit
        methods["inpaint, ensemble"] = lambda x, m: model.edit(x, m, ensemble=True)
    sets = {name: held_out(kind, options.num) for name, kind in KINDS.items()}
    columns: dict[str, tuple[Tensor, Tensor]] = {}
    for name, (images, masks) in sets.items():
        large = masks.flatten(1).mean(dim=1) > 0.1
        for size, chosen in (("up to 10 %", ~large), ("above 10 %", large)):
            if chosen.any():
                columns[f"{name} {size} ({int(chosen.sum())})"] = images[chosen], masks[chosen]
    print(f"| PSNR in the hole, dB | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, method in methods.items():
        values = [f"{float(scored(method, *pair).mean()):.2f}" for pair in columns.values()]
        print(f"| {name} | {' | '.join(values)} |", flush=True)
    if options.picture is not None:
        images, masks = (torch.cat([pair[part][:3] for pair in sets.values()]) for part in (0, 1))
        shown = [torch.where(masks > 0, 1.0, images), *(method(images, masks) for method in methods.values()), images]
        rows = torch.stack(shown, dim=1).flatten(0, 1)
        text = {"columns": " | ".join(["degraded", *methods, "original"])}
        save_png(image_grid(((rows + 1) * 127.5).round().clamp(0, 255).byte(), len(shown)), options.picture, text)


if __name__ == "__main__":
    main()
