"""How many nats the words of a caption are worth to a model of captioned shapes.

    python benchmarks/prompt_gain.py RUN [--num 256]

RUN is an `image_gpt`, `maskgit` or `var` trained on `shapes` with prompts. The loss of held-out pictures is computed
with their captions, with captions that name another form of the larger shape, and with captions that name another
colour. A wrong word costs a model that does not read it nothing, and one that is sure of it many nats. Unlike judging
samples, this needs no classifier and a few seconds, and tells early in a training whether prompts begin to act.
"""

import argparse
from dataclasses import replace

import torch
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.sets.scenes import COLORS, KINDS, Scene, random_scene
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.inference import load
from torch import Tensor

from aigc_autoregressive.models.token_model import TokenModel

_HELD_OUT = 1  # the part of the scenes
_AT_ONCE = 64


def changed(scene: Scene, what: str) -> Scene:
    """Return the scene with the next form ("kind") or the next colour ("color") of the larger shape."""
    names = list(KINDS if what == "kind" else COLORS)
    larger = scene.shapes[0]
    other = names[(names.index(getattr(larger, what)) + 1) % len(names)]
    return replace(scene, shapes=(replace(larger, **{what: other}), *scene.shapes[1:]))  # type: ignore[arg-type]


@torch.no_grad()
def loss_of(model: TokenModel, images: Tensor, captions: list[str]) -> float:
    """Return the mean loss of images (B, 3, H, W) in nats an image; masks, if any, are those of a fixed seed."""
    found = []
    network = model.averaged("network")
    for part, texts in zip(images.split(_AT_ONCE), range(0, len(captions), _AT_ONCE), strict=True):
        tokens = model.tokens(part)
        draws = torch.rand(len(part), model.draws_of_loss, generator=torch.Generator().manual_seed(0))
        condition = network.condition(None, captions[texts : texts + _AT_ONCE])  # type: ignore[operator]
        found.append(model.losses(network, tokens, condition, draws) * tokens.shape[1])  # type: ignore[arg-type]
    return torch.cat(found).mean().item()


def main() -> None:
    """Print the loss and what wrong words add to it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--num", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    model = load(options.run).model
    assert isinstance(model, TokenModel)
    scenes = [random_scene(_HELD_OUT, number) for number in range(options.num)]
    data = Shapes(size=(model.spec.height, model.spec.width), num_val=options.num)
    images = data.samples(data.val_source()).read(range(options.num))["image"]
    right = loss_of(model, images, [scene.caption for scene in scenes])
    print(f"loss with the right captions: {right:.2f} nats an image")
    for name, what in (("form", "kind"), ("colour", "color")):
        wrong = loss_of(model, images, [changed(scene, what).caption for scene in scenes])
        print(f"with another {name}: {wrong - right:+.2f} nats")


if __name__ == "__main__":
    main()
