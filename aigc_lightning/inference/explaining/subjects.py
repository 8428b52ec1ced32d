"""Which parts an explanation has: what a model can do decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.attention import AttentionModel, TextAttentionModel
from aigc_lightning.core.capabilities import Classifier, InvertibleGenerator, LatentGenerator, takes
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.sources import to_signed
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.evaluation.generation import Judge
from aigc_lightning.evaluation.image_sets import DataImages, Samples
from aigc_lightning.inference.explaining import sections
from aigc_lightning.inference.explaining.attention import attended, attended_words
from aigc_lightning.inference.explaining.page import Part
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.model_options import check_condition, model_options


@dataclass(frozen=True)
class Asked:
    """What is asked of a model about pictures, beside the pictures.

    Args:
        class_name: the class to explain, or that attention is shown for; None for the predicted one, or none.
        prompt: that attention is shown for; None for none.
        options: of the model's `attention_maps`, as texts by name.
    """

    class_name: str | None = None
    prompt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def explain_pictures(loaded: LoadedModel, files: Sequence[Path], asked: Asked | None = None) -> list[Part]:
    """Return what a model sees in pictures: as a classifier, by its attention, and in its latent dimensions.

    Args:
        loaded: the model.
        files: pictures, which are cropped and resized to the model's images.
        asked: class, prompt and options.

    Raises:
        UserError: the model does none of these, has no such class or option, takes no prompts, or a file cannot be
            read.
    """
    model, asked = loaded.model, asked or Asked()
    target = _class_number(loaded, asked.class_name)
    given = _given_to_attention(loaded, asked, target)
    images, names, parts = _read(files, model.spec.shape), [path.name for path in files], []
    if isinstance(model, Classifier):
        parts.append(sections.classified(model, images, names, target))
    if isinstance(model, AttentionModel):
        parts.append(attended(model, images, names, given))
    if isinstance(model, TextAttentionModel) and asked.prompt is not None:
        parts.append(attended_words(model, images, names, asked.prompt, given))
    if isinstance(model, InvertibleGenerator) and hasattr(model, "latent_divergence"):
        parts.append(sections.traversed(model, torch.stack(images)))
    if not parts:
        what = f"{loaded.name} neither classifies pictures, nor has attention or latent dimensions to show for them."
        raise UserError(what, f"See what it draws: aigc explain {loaded.path}")
    return parts


def _class_number(loaded: LoadedModel, class_name: str | None) -> int | None:
    """Return the number of a class to be explained.

    Raises:
        UserError: the model has no such class.
    """
    if class_name is None:
        return None
    model = loaded.model
    by_class = isinstance(model, AttentionModel) and takes(model.attention_maps, "labels")
    known = model.spec.class_names if isinstance(model, Classifier) or by_class else ()
    if class_name not in known:
        what = f"{loaded.name} does not recognise a class {class_name!r}."
        raise UserError(what, did_you_mean(class_name, known) or "Leave --class out.")
    return model.spec.class_names.index(class_name)


def _given_to_attention(loaded: LoadedModel, asked: Asked, target: int | None) -> dict[str, Any]:
    """Return the arguments of `attention_maps` for one image.

    Raises:
        UserError: the model has no attention to show, or takes no such option or prompt.
    """
    model = loaded.model
    if not isinstance(model, AttentionModel):
        given = ["--prompt"] if asked.prompt is not None else [f"--{name}" for name in asked.options]
        if given:
            what = f"{given[0]} has no effect: {loaded.name} has no attention to show."
            raise UserError(what, "Leave it out; see: aigc explain --help")
        return {}
    found = model_options(model, "attention_maps", asked.options, ("--class", "--prompt", "--out", "--device"))
    if asked.prompt is not None:
        check_condition(model, "attention_maps", "prompts")
        if not asked.prompt.strip():
            raise UserError("--prompt has no words.", "Give some, or leave it out.")
        found["prompts"] = [asked.prompt]
    if target is not None and takes(model.attention_maps, "labels"):
        found["labels"] = [target]
    return found


def explain_drawing(loaded: LoadedModel, classifier: str | None = None, seed: int = 0) -> list[Part]:
    """Return what a generator's latents and channels draw.

    Args:
        loaded: a model with latents.
        classifier: run or checkpoint of a classifier that measures effects.
        seed: of the first image.

    Raises:
        UserError: the model has no latents, or the classifier cannot be used.
    """
    model = loaded.model
    if not isinstance(model, LatentGenerator):
        what = f"{loaded.name} has no latents to explain."
        raise UserError(what, "Give pictures, or --seed for the training images nearest to what it makes.")
    if classifier is None:
        return sections.found_directions(model, [seed], None, ())
    extractor = find_extractor(classifier).to(model.device)
    names = extractor.class_names
    if not names:
        raise UserError(f"{classifier} does not classify images.", "Give a run of a classifier, such as cnn.")

    def probabilities(images: Tensor) -> Tensor:
        logits = extractor(to_uint8(images).to(model.device)).logits
        assert logits is not None
        return logits.softmax(1).cpu()

    parts = sections.found_directions(model, [seed], probabilities, names)
    return [*parts, sections.drawn_units(model, [seed], probabilities, names)]


def explain_memory(loaded: LoadedModel, seeds: Sequence[int], data: ImageDataModule, extractor: str | None) -> Part:
    """Return the training images nearest to the images of seeds.

    Args:
        loaded: a generator.
        seeds: of its images.
        data: that it was trained on.
        extractor: of features; see `find_extractor`.

    Raises:
        UserError: the model does not generate images, or the extractor cannot be used.
    """
    model = loaded.model
    loaded.generator()
    judge = Judge(find_extractor(extractor or "inception").to(model.device))
    seen, held_out = DataImages(data, "train"), DataImages(data, "val")
    judge.check(seen)
    return sections.remembered(judge, Samples(model, seeds), seen, held_out)


def _read(files: Sequence[Path], shape: tuple[int, int, int]) -> list[Tensor]:
    images = []
    for path in files:
        try:
            images.append(to_signed(decode(path, shape[0], size=shape[1:])))
        except CorruptImageError as error:
            raise UserError(f"{shown(path)} cannot be read: {error.reason}.", "Give another one.") from error
    return images
