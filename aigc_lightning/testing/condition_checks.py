"""Checks of what a model takes beside seeds and images: classes, prompts, masks, references and options.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import CONDITIONS, Editor, Generator, LikelihoodModel, num_sampled_classes, takes
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.method_options import output_scale
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.testing.cases import ModelCase, isolated
from aigc_lightning.testing.checks import not_applicable, require

SEEDS = (3, 7)
#: Step until which a condition must have an effect.
_LATEST_EFFECT = 12
_NAMES = {"labels": "class", "prompts": "prompt", "references": "reference", "masks": "mask"}


def obeys_what_it_takes(case: ModelCase) -> None:
    """Classes, prompts, references and masks that it takes change its results after a few steps of training."""
    conditions = _conditions(case.load())
    if not conditions:
        not_applicable("it takes neither classes, prompts, references nor masks")
    ignored = _ignored(case.load(), conditions)
    if ignored:
        with isolated():
            longer = case.load(case.resume(case.trained, "until_obeyed", _LATEST_EFFECT))
        ignored = _ignored(longer, conditions)
    listed = " and ".join(f"`{name}` of {method}" for method, name in ignored)
    require(not ignored, f"Another {' or '.join(_NAMES[name] for _, name in ignored)} gives the same result: {listed}.")


def keeps_what_masks_leave_out(case: ModelCase) -> None:
    """What masks leave out of an edit stays equal, if the model promises it: `keeps_unmasked = True`."""
    model = case.load()
    if not getattr(model, "keeps_unmasked", False):
        not_applicable("it does not promise it")
    require(isinstance(model, Editor) and takes(model.edit, "masks"), "It keeps_unmasked but its edit takes no masks.")
    assert isinstance(model, Editor)
    images = input_images(model.spec, len(SEEDS))
    given = given_to_edit(model, images, {"masks": _half(images)})
    with isolated():
        edited = model.edit(images, **given)
    scale = output_scale(model)
    require(scale == 1, "It keeps_unmasked but makes images larger.")
    kept = (given["masks"] == 0).expand_as(images)
    worst = float((edited.cpu() - images)[kept].abs().max())
    require(worst <= 1 / 255, f"Pixels that the mask leaves out change by {worst:.3g}.")


def predicts(case: ModelCase) -> None:
    """`aigc predict` writes pictures or a table."""
    options = ["--trainer.limit_predict_batches=1", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    folder = case.folder / "predicted"
    case.run("predict", [f"--checkpoint={case.trained}", f"--run={folder}", *options])
    require(any((folder / "predictions").iterdir()), "It writes nothing.")


def given_to_edit(model: Any, images: Tensor, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments of `edit` beside images (B, C, H, W): those given, and what else it cannot do without."""
    made: dict[str, Callable[[], Any]] = {
        "masks": lambda: _half(images),
        "references": lambda: input_images(replace(model.spec, scale=1), len(images)).flip(0),
        "prompts": lambda: ["one circle"] * len(images),
        "seeds": lambda: list(range(len(images))),
        "direction": lambda: "AtoB",
    }
    chosen = dict(given or {})
    for name, parameter in signature(model.edit).parameters.items():
        if name in CONDITIONS["edit"] and parameter.default is Parameter.empty and name not in chosen:
            chosen[name] = made[name]()
    return chosen


def given_to_likelihood(model: Any, count: int) -> dict[str, list[Any]]:
    """Return the conditions and seeds that `log_likelihood` of a model takes, for `count` images."""
    made: dict[str, list[Any]] = {"prompts": ["one circle"] * count, "seeds": list(range(count))}
    if model.spec.num_classes:
        made["labels"] = [place % model.spec.num_classes for place in range(count)]
    return {name: value for name, value in made.items() if takes(model.log_likelihood, name)}


def _conditions(model: ImageModel) -> list[tuple[str, str]]:
    """Return the method and the name of each argument that must have an effect."""
    found = []
    if isinstance(model, Generator):
        found += [("sample", "labels")] if num_sampled_classes(model) > 1 else []
        found += [("sample", "prompts")] if takes(model.sample, "prompts") else []
    if isinstance(model, Editor):
        found += [("edit", name) for name in ("masks", "references", "prompts") if takes(model.edit, name)]
    if isinstance(model, LikelihoodModel):
        taken = given_to_likelihood(model, len(SEEDS))
        found += [("log_likelihood", "labels")] if "labels" in taken and model.spec.num_classes > 1 else []
        found += [("log_likelihood", "prompts")] if "prompts" in taken else []
    return found


def _ignored(model: ImageModel, conditions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arguments of which two values give the same results."""
    with isolated():
        return [condition for condition in conditions if _gives_the_same(model, *condition)]


def _gives_the_same(model: Any, method: str, name: str) -> bool:
    images, count = input_images(model.spec, len(SEEDS)), len(SEEDS)
    references = input_images(replace(model.spec, scale=1), len(SEEDS))
    values: dict[str, tuple[Any, Any]] = {
        "labels": ([0] * count, [1] * count),
        "prompts": (["one circle"] * count, ["three stars"] * count),
        "references": (references, -references),
        "masks": (_half(images), _half(images).flip(-1)),
    }
    try:
        if method == "sample":
            first, second = (model.sample(SEEDS, **{name: value}) for value in values[name])
        elif method == "log_likelihood":
            levels, given = level_images(model.spec, count), given_to_likelihood(model, count)
            first, second = (model.log_likelihood(levels, **{**given, name: value}) for value in values[name])
        else:
            first, second = (
                model.edit(images, **given_to_edit(model, images, {name: value})) for value in values[name]
            )
    except UserError:
        return False  # refused, and so not ignored in silence
    return torch.equal(first, second)


def input_images(spec: ImageSpec, count: int) -> Tensor:
    """Return noise images (count, C, H, W) in [-1, 1], the same at each call, of the size that a model edits."""
    height, width = (max(1, round(size / spec.scale)) for size in (spec.height, spec.width))
    generator = torch.Generator().manual_seed(0)
    return torch.rand((count, spec.channels, height, width), generator=generator) * 2 - 1


def level_images(spec: ImageSpec, count: int) -> Tensor:
    """Return noise images (count, C, H, W) of 256 levels in [-1, 1], the same at each call."""
    return (input_images(replace(spec, scale=1), count) + 1).mul(127.5).round() / 127.5 - 1


def _half(images: Tensor) -> Tensor:
    """Return masks (B, 1, H, W) of the left half."""
    masks = torch.zeros_like(images[:, :1])
    masks[..., : (images.shape[-1] + 1) // 2] = 1
    return masks
