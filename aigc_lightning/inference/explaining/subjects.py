"""Which parts an explanation has: what a model can do decides."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from aigc_lightning.core.capabilities import AttentionModel, Classifier, InvertibleGenerator, LatentGenerator
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
from aigc_lightning.inference.explaining.page import Part
from aigc_lightning.inference.loaded_model import LoadedModel


def explain_pictures(loaded: LoadedModel, files: Sequence[Path], class_name: str | None = None) -> list[Part]:
    """Return what a model sees in pictures: as a classifier, by its attention, and in its latent dimensions.

    Args:
        loaded: the model.
        files: pictures, which are cropped and resized to the model's images.
        class_name: the class to explain; the predicted one when None.

    Raises:
        UserError: the model does none of these, has no such class, or a file cannot be read.
    """
    model = loaded.model
    classifies = isinstance(model, Classifier)
    if class_name is not None and not (classifies and class_name in model.spec.class_names):
        known = model.spec.class_names if classifies else ()
        what = f"{loaded.name} does not recognise a class {class_name!r}."
        raise UserError(what, did_you_mean(class_name, known) or "Leave --class out.")
    images, names, parts = _read(files, model.spec.shape), [path.name for path in files], []
    if isinstance(model, Classifier):
        target = None if class_name is None else model.spec.class_names.index(class_name)
        parts.append(sections.classified(model, images, names, target))
    if isinstance(model, AttentionModel):
        parts.append(sections.attended(model, images, names))
    if isinstance(model, InvertibleGenerator) and hasattr(model, "latent_divergence"):
        parts.append(sections.traversed(model, torch.stack(images)))
    if not parts:
        what = f"{loaded.name} neither classifies pictures, nor has attention or latent dimensions to show for them."
        raise UserError(what, f"See what it draws: aigc explain {loaded.path}")
    return parts


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
