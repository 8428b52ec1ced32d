"""Print how well a trained watermark survives: `python benchmarks/robustness.py RUN [--size 64] [--images 512]`."""

import argparse

import torch
from aigc_lightning import load
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data import Photos
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sets.photos import VAL_PHOTOS

from aigc_trust import attacks
from aigc_trust.code import decode, encode

ATTACKS = {
    "none": lambda images: images,
    "JPEG 90": lambda images: attacks.jpeg(images, 90),
    "JPEG 75": lambda images: attacks.jpeg(images, 75),
    "JPEG 50": lambda images: attacks.jpeg(images, 50),
    "half and back": lambda images: attacks.scaled(images, 0.5),
    "crop 10 %": lambda images: attacks.cropped(images, 0.1),
    "brightness x 1.2": lambda images: attacks.brightened(images, 1.2),
    "brightness x 0.8": lambda images: attacks.brightened(images, 0.8),
    "noise, std 5 of 255": lambda images: attacks.noisy(images, 5, torch.randn_like(images)),
    "screenshot": lambda images: attacks.screenshot(images, 0.5),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--size", type=int, default=64, help="height and width of held-out images")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--samples", metavar="RUN", help="mark samples of this generator instead of held-out images")
    parser.add_argument("--unmarked", action="store_true", help="also count false positives in crops 8 pixels apart")
    options = parser.parse_args()
    print(machine_line())
    torch.manual_seed(0)
    model = load(options.run).model
    images = held_out(model.spec.channels, options.size, options.images)
    if options.samples:
        images = attacks.rounded(load(options.samples).model.sample(range(options.images)))
    payload = 0xBEEF
    word = torch.from_numpy(encode(payload, model.payload_bits))
    marked = attacks.rounded(model.mark(images, payload))
    error = (marked - images).square().mean(dim=(1, 2, 3)) / 4
    psnr = -10 * error.log10()
    print(f"{len(images)} images of {images.shape[-1]} pixels, {model.payload_bits} bits")
    print(f"PSNR: mean {psnr.mean():.1f} dB, least {psnr.min():.1f} dB\n")
    print("| attack | bits | payload read | payload read without a mark |\n|---|---|---|---|")
    for name, attack in ATTACKS.items():
        soft, plain = (logits(model, attack(batch)) for batch in (marked, images))
        bits = ((soft > 0) == (word > 0)).float().mean()
        found = [decode(row.numpy(), model.payload_bits).payload == payload for row in soft]
        false = [decode(row.numpy(), model.payload_bits).payload is not None for row in plain]
        print(f"| {name} | {bits:.3f} | {sum(found) / len(found):.3f} | {sum(false)} of {len(false)} |")
    if options.unmarked and model.spec.channels == 3:
        found = [decode(row.numpy(), model.payload_bits).payload for row in logits(model, crops(options.size))]
        print(f"\nIn {sum(value is not None for value in found)} of {len(found)} crops without a mark, one is found.")


def crops(size: int) -> torch.Tensor:
    """Return overlapping crops (B, 3, size, size) of the held-out photographs, 8 pixels apart."""
    from skimage import data

    photos = [torch.from_numpy(getattr(data, name)()).permute(2, 0, 1) for name in VAL_PHOTOS]
    windows = [photo.unfold(1, size, 8).unfold(2, size, 8) for photo in photos]
    parts = [window.permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size) for window in windows]
    return torch.cat(parts).float() / 127.5 - 1


def held_out(channels: int, size: int, count: int) -> torch.Tensor:
    """Return images (B, C, size, size) in [-1, 1] that the presets have not trained on."""
    data = Digits(size) if channels == 1 else Photos(size)
    data.setup("fit")
    images = torch.cat([batch["image"] for batch in data.val_dataloader()])
    return images[:count]


def logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return logits (B, N)."""
    with model.inference():
        return model.logits(images)


if __name__ == "__main__":
    main()
