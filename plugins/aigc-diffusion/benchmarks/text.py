"""How often a model of captioned shapes draws what held-out captions say.

    aigc fit --model cnn --data shapes --data.size 32 --data.num_train 20000 --trainer.max_steps 1500 --run judge
    python benchmarks/text.py RUN judge [--num 500] [--steps 18] [--guidance 1] [--temperature 1]

The form of the larger shape is what the classifier calls it; real pictures show its accuracy. The colour is
decided by the drawing's rules: the colour of the palette that most pixels are nearest to, the background left out.
"""

import argparse

import numpy as np
import torch
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.sets.scenes import COLORS, GROUNDS, Scene, random_scene
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.inference import load
from torch import Tensor

_HELD_OUT = 1  # the part of the scenes
_SKIPPED = 4096  # held-out scenes that the runs' own validation does not show
_FAR = 60.0  # distance in RGB from which a pixel is neither palette nor background, such as an outline


def colour_of(image: Tensor, ground: str) -> str:
    """Return the palette's colour that most pixels of a picture (3, H, W) in [-1, 1] are nearest to."""
    pixels = ((image.permute(1, 2, 0).reshape(-1, 3) + 1) * 127.5).numpy()
    names = [*COLORS, "ground"]
    palette = np.array([*COLORS.values(), GROUNDS[ground][0]], np.float32)
    distances = np.linalg.norm(pixels[:, None] - palette, axis=2)
    found, near = distances.argmin(axis=1), distances.min(axis=1) < _FAR
    counts = np.bincount(found[near], minlength=len(names))
    return names[int(counts[:-1].argmax())]


def rightness(images: Tensor, scenes: list[Scene], judge: object) -> tuple[float, float, float]:
    """Return the shares of pictures with the right form, the right colour, and both, of the larger shape."""
    kinds = judge.spec.class_names  # type: ignore[attr-defined]
    named = torch.cat([judge.classify(part) for part in images.split(100)]).argmax(dim=1)  # type: ignore[attr-defined]
    form = [kinds[int(name)] == scene.shapes[0].kind for name, scene in zip(named, scenes, strict=True)]
    colour = [
        colour_of(image, scene.ground) == scene.shapes[0].color for image, scene in zip(images, scenes, strict=True)
    ]
    both = [is_form and is_colour for is_form, is_colour in zip(form, colour, strict=True)]
    return float(np.mean(form)), float(np.mean(colour)), float(np.mean(both))


#: Of the models' own `sample`.
_OPTIONS = ("steps", "guidance", "temperature")


def main() -> None:
    """Print the shares for real pictures and for those of the run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("judge")
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--temperature", type=float, default=None, help="of models that draw tokens")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    judge, model = load(options.judge).model, load(options.run).model
    numbers = range(_SKIPPED, _SKIPPED + options.num)
    scenes = [random_scene(_HELD_OUT, number) for number in numbers]
    data = Shapes(size=model.spec.height, num_val=_SKIPPED + options.num)
    real = data.samples(data.val_source()).read(numbers)["image"]
    own = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    made = sampled(model, list(numbers), prompts=[scene.caption for scene in scenes], **own)  # type: ignore[arg-type]
    print("| pictures | form | colour | both |\n|---|---|---|---|")
    for name, images in {"real": real, f"{options.run}, {own}": made}.items():
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in rightness(images, scenes, judge)) + " |")


if __name__ == "__main__":
    main()
