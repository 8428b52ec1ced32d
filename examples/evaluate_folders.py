"""Scores of a folder of pictures against another, by a classifier of one's own.

    python examples/evaluate_folders.py

Pictures of anything else are scored with `extractor="inception"`, once `aigc assets fetch inception` has been run.
"""

from pathlib import Path

from PIL import Image

from aigc_lightning import evaluate, fit, sample
from aigc_lightning.data import Digits
from aigc_lightning.evaluation import DataImages


def write_digits(folder: Path, num: int) -> None:
    """Write training digits as files, which stand for the pictures that you have."""
    folder.mkdir(parents=True, exist_ok=True)
    images, numbers, _ = DataImages(Digits(size=32), "train").read(range(num))
    for image, number in zip(images, numbers, strict=True):
        Image.fromarray(image[0].numpy()).save(folder / f"{int(number):04d}.png")


def main(steps: int = 500, num: int = 500) -> None:
    """Score the samples of a GAN, as files, against real digits."""
    write_digits(Path("real"), num)
    judge = fit("cnn_digits", trainer={"max_steps": steps}, run="judge")
    gan = fit("dcgan_digits", trainer={"max_steps": steps}, run="gan")
    sample(gan, range(num), out="fake")

    scores = evaluate(fake="fake", real="real", extractor=judge, out="scores")
    for name, value in scores.items():
        print(f"{name:<28}{value:8.3f}")
    print("Everything that they depend on:", scores.folder / "scores.json")


if __name__ == "__main__":
    main()
