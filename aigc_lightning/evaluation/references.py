"""Reference images: which real images of a dataset are used for which comparison."""

from collections.abc import Mapping
from typing import Any

from aigc_lightning.core.capabilities import takes
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.evaluation.generation import Reference
from aigc_lightning.evaluation.image_sets import DataImages, ImageSet, Part, Samples, chosen

#: Default maximum number of images on each side.
MOST = 10_000


def reference_of(data: ImageDataModule, part: Part, num: int | None = None, field: str = "image") -> Reference:
    """Return the reference images, others for the floor, and training and held-out images for the copy rate.

    Args:
        data: the dataset.
        part: of it that is the reference.
        num: images of the reference; all when None, up to `MOST`.
        field: the key of the images in a batch.
    """
    whole = DataImages(data, part, field)
    numbers = chosen(len(whole), num or MOST)
    images = whole.subset(numbers)
    rest = sorted(set(range(len(whole))) - set(numbers))
    others = DataImages(data, "val", field) if part == "train" else None
    spare: DataImages | None = others
    if len(rest) >= len(numbers):
        spare = whole.subset([rest[place] for place in chosen(len(rest), len(numbers))])
    seen: ImageSet | None = None
    if part == "train":
        seen = whole if rest else images
    return Reference(images, spare, seen, others)


def samples_like(
    real: ImageSet,
    model: ImageModel,
    num: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Samples:
    """Return samples by the classes and captions of real images, where the model makes images by these.

    Args:
        real: what they will be compared with.
        model: makes them.
        num: how many; as many as real images when None.
        seed: the first seed.
        options: of the model's own `sample`, where they differ from its defaults.
    """
    count = num or len(real)
    labels = None
    if real.class_names and real.class_names == model.spec.class_names:
        known = [label for _, _, found in real.batches() if found is not None for label in found.tolist()]
        labels = [known[place % len(known)] for place in range(count)]
    texts = real.captions() if isinstance(real, DataImages) and takes(getattr(model, "sample", None), "prompts") else []
    prompts = [texts[place % len(texts)] for place in range(count)] if texts else None
    return Samples(model, range(seed, seed + count), labels, prompts, options)
