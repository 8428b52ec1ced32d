"""Checks of a model that need no further training: building, sampling, saving, exporting."""

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized

from aigc_lightning.core.capabilities import (
    Classifier,
    Editor,
    Embedder,
    EmbeddingClassifier,
    Generator,
    LatentGenerator,
    capabilities,
    latent_spaces,
    size_multiple,
)
from aigc_lightning.core.checkpoint import load_model, save_weights
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.method_options import output_scale
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.spec import CHANNEL_NAMES, ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.testing.cases import ModelCase, isolated
from aigc_lightning.testing.checks import not_applicable, require
from aigc_lightning.testing.condition_checks import SEEDS, given_to_edit, input_images

_ODD_SIZES = ((1, 1), (5, 7), (17, 31))


def builds_with_defaults(case: ModelCase) -> None:
    """It can be built from a spec alone: every other argument has a default."""
    with isolated():
        model = case.target(case.spec)
    require(isinstance(model, ImageModel), "It is not an ImageModel.")
    require(
        bool(capabilities(model)), "It has no capability: define sample, edit, embed, classify or mark, for example."
    )
    model.provenance()  # raises TypeError for arguments that are not plain values


def refuses_what_it_cannot_do(case: ModelCase) -> None:
    """An unsupported spec is a UserError that names the spec, before training; any other spec works."""
    for channels in set(CHANNEL_NAMES) - set(case.target.channels):
        wrong = replace(case.spec, channels=channels)
        error = _refusal(case, wrong)
        require(error is not None, f"It accepts {channels} channels although it does not claim to.")
        require(str(channels) in str(error), f"The error for {channels} channels does not name them: {error}")
    bare = {
        "label": replace(case.spec, class_names=()),
        "caption": replace(case.spec, captions=False),
        "mask": replace(case.spec, masks=False),
    }
    for name, lacking in bare.items():
        if name in case.target.needs:
            error = _refusal(case, lacking)
            require(error is not None and name in str(error), f"It needs a {name} but accepts data without: {error}")
    for channels, (height, width) in product(case.target.channels[:1], _ODD_SIZES):
        odd = replace(case.spec, channels=channels, height=height, width=width)
        error = _refusal(case, odd)
        if error is None:
            output_is_an_image(case.build(odd), odd)
        else:
            sizes = (str(height), str(width))
            require(any(size in str(error) for size in sizes), f"The error for {odd} does not name it: {error}")


def keeps_the_contract_of_its_output(case: ModelCase) -> None:
    """Its images are float32 (B, C, H, W) in [-1, 1], each from its own seed or image alone; no side effects."""
    model = case.load()
    output_is_an_image(model, case.spec)
    if isinstance(model, Generator):
        first, alone = model.sample(SEEDS), model.sample(SEEDS[1:])
        require(torch.allclose(first[1:], alone, atol=1e-4), "A seed's image depends on the other seeds of the call.")
        require(not torch.equal(first[0], first[1]), "Two seeds give the same image.")
        _check_repeats(model, "sample", lambda: model.sample(SEEDS))
    if isinstance(model, Editor):
        images = input_images(case.spec, len(SEEDS))
        given = given_to_edit(model, images)
        own = {name: value if isinstance(value, str) else value[1:] for name, value in given.items()}
        both, alone = model.edit(images, **given), model.edit(images[1:], **own)
        require(torch.allclose(both[1:], alone, atol=1e-4), "An edit depends on the other images of the call.")
        _check_repeats(model, "edit", lambda: model.edit(images, **given))


def _check_repeats(model: ImageModel, method: str, run: Callable[[], Tensor]) -> None:
    """Fail unless a method returns the same at each call and has no side effects."""
    first = run()
    require(torch.equal(first, run()), f"{method}() returns different images at a second call.")
    model.train()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    again = run()
    require(torch.equal(first, again), "Images differ between training and evaluation mode: use self.inference().")
    require(modes == [module.training for module in model.modules()], f"{method}() changes the mode of its modules.")
    require(torch.equal(state, torch.get_rng_state()), f"{method}() draws from the global random state.")
    require(not again.requires_grad, f"{method}() keeps the autograd graph.")


def output_is_an_image(model: ImageModel, spec: ImageSpec) -> None:
    """Fail unless all of a model's capabilities return values of the right shape, type and range."""
    images = noise_images(spec, len(SEEDS))
    with isolated():
        if isinstance(model, Generator):
            _check_images(model.sample(SEEDS), "sample", (len(SEEDS), *spec.shape))
        if isinstance(model, Editor):
            small = input_images(spec, len(SEEDS))
            _check_images(_edited(model, small), "edit", (len(SEEDS), spec.channels))
            multiple = size_multiple(model)
            if multiple is not None:
                side = math.ceil(16 / multiple) * multiple
                oblong = noise_images(ImageSpec(spec.channels, side, 2 * side), 1)
                scale = output_scale(model)
                _check_images(_edited(model, oblong), "edit", (1, spec.channels, scale * side, scale * 2 * side))
        if isinstance(model, LatentGenerator):
            _check_images(model.decode(model.latents(SEEDS)), "decode", (len(SEEDS), *spec.shape))
            _check_spaces(model)
        if isinstance(model, Embedder):
            vectors = model.embed(images)
            require(vectors.ndim == 2 and len(vectors) == len(images), f"embed() returns {tuple(vectors.shape)}.")
        if isinstance(model, Classifier) and spec.num_classes:
            wanted = (len(images), spec.num_classes)
            logits = model.classify(images)
            require(tuple(logits.shape) == wanted, f"classify() does not return {wanted}.")
            if isinstance(model, EmbeddingClassifier):
                again = model.classify_embeddings(model.embed(images))
                message = "classify_embeddings(), given what embed() returns, does not return the logits of classify()."
                require(again.shape == logits.shape and torch.allclose(again, logits, atol=1e-4), message)


def survives_a_checkpoint(case: ModelCase) -> None:
    """A checkpoint, also loaded by Lightning, and an exported file give the same images as the saved model."""
    model = case.load()
    expected = first_output(model, case.spec)
    path = case.folder / "exported.safetensors"
    save_weights(model, path, {})
    for source in (find_checkpoint(case.trained), path):
        for way, load in (("load_model", load_model), ("load_from_checkpoint", case.target.load_from_checkpoint)):
            with isolated():
                found = first_output(load(source).eval(), case.spec)
            require(torch.equal(expected, found), f"The model of {Path(source).name} by {way} gives different images.")
    keys = ("class_path", "config", "spec", "versions")
    require(all(key in case.record for key in keys), f"The checkpoint does not record {keys}.")


def can_be_pickled(case: ModelCase) -> None:
    """It can be pickled, as spawned processes require."""
    model = case.load()
    if _is_parametrized(model):  # torch refuses to pickle these, so the model with its defaults is used instead
        with isolated():
            model = case.target(case.spec).eval()
    if _is_parametrized(model):
        not_applicable("torch cannot pickle parametrized layers such as spectral norm")
    copy = pickle.loads(pickle.dumps(model))
    require(
        torch.equal(first_output(model, case.spec), first_output(copy, case.spec)), "Its copy gives different images."
    )


def _is_parametrized(model: ImageModel) -> bool:
    return any(is_parametrized(module) for module in model.modules())


def noise_images(spec: ImageSpec, count: int) -> Tensor:
    """Return noise images (count, C, H, W) in [-1, 1], the same at each call."""
    return torch.rand((count, *spec.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1


def first_output(model: ImageModel, spec: ImageSpec) -> Tensor:
    """Return the output of the model's first capability."""
    images = noise_images(spec, len(SEEDS))
    with isolated(), torch.no_grad():
        if isinstance(model, Generator):
            return model.sample(SEEDS)
        if isinstance(model, Editor):
            return _edited(model, input_images(spec, len(SEEDS)))
        if isinstance(model, Embedder):
            return model.embed(images)
        if isinstance(model, Classifier):
            return model.classify(images)
    not_applicable("it has no capability")


def _edited(model: Editor, images: Tensor) -> Tensor:
    """Return edited images (B, C, H, W), with what the model cannot do without."""
    return model.edit(images, **given_to_edit(model, images))


def _check_spaces(model: Any) -> None:
    """Fail unless a seed gives the same image in each of a model's latent spaces."""
    labels = [0] * len(SEEDS)
    shown = model.decode(model.latents(SEEDS), labels)
    for space in latent_spaces(model):
        points = model.latents(SEEDS, labels, space)
        require(points.ndim == 2, f"latents() returns {tuple(points.shape)} in the space {space!r}, not (B, Z).")
        images = model.decode(points, labels, space)
        require(torch.allclose(images, shown, atol=1e-4), f"A seed gives a different image in the space {space!r}.")


def _check_images(images: Tensor, method: str, shape: tuple[int, ...]) -> None:
    found = tuple(images.shape)
    require(images.ndim == 4 and found[: len(shape)] == shape, f"{method}() returns {found}, not {shape}.")
    require(images.dtype == torch.float32, f"{method}() returns {images.dtype}, not float32.")
    require(bool(images.isfinite().all()), f"{method}() returns values that are not finite.")
    low, high = images.min().item(), images.max().item()
    require(low >= -1 and high <= 1, f"{method}() returns values from {low:.3g} to {high:.3g}, not in [-1, 1].")


def _refusal(case: ModelCase, spec: ImageSpec) -> UserError | None:
    try:
        case.build(spec)
    except UserError as error:
        return error
    return None
