"""Sets of indexed images to score: from a dataset or a folder, samples of a model, or images edited by a model.

Shapes: B batch, C channels, H and W height and width in pixels.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from unicodedata import normalize

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.capabilities import Editor, Generator, num_sampled_classes
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.predictions import edited
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource
from aigc_lightning.data.decode import SUFFIXES, CorruptImageError, decode
from aigc_lightning.data.folders.find_images import find_images, warn_of_others
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import Labelled

Part = Literal["train", "val", "test"]
#: Images read or generated together. Fixed, since the rounding of a model's output can depend on the batch size.
BLOCK = 64


class ImageSet(ABC):
    """Numbered images, which can be read again by their numbers.

    Args:
        name: display name, such as "digits, train".
        numbers: of the images, in order.
        class_names: what the labels mean; empty without labels.
    """

    #: How many images may be read together.
    block = BLOCK

    def __init__(self, name: str, numbers: Sequence[int], class_names: tuple[str, ...] = ()) -> None:
        self.name, self.numbers, self.class_names = name, list(numbers), class_names

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    @abstractmethod
    def read(self, numbers: Sequence[int]) -> Labelled:
        """Return images of one size, uint8 (B, C, H, W), their numbers (B,), and labels (B,) or None."""

    def batches(self, rank: int = 0, world_size: int = 1) -> Iterator[Labelled]:
        """Yield a process's share, in blocks that are the same whatever the number of processes."""
        for start in range(rank * self.block, len(self), world_size * self.block):
            yield self.read(self.numbers[start : start + self.block])

    def fingerprint(self) -> str:
        """Return a hash of sizes, pixels and labels in order: equal for equal images, wherever they come from."""
        digest = hashlib.sha256()
        for images, _, labels in self.batches():
            for place, image in enumerate(images):
                label = "" if labels is None else int(labels[place])
                digest.update(f"{tuple(image.shape)} {label}".encode())
                digest.update(image.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


class DataImages(ImageSet):
    """Images of a part of a dataset, without augmentation.

    Args:
        data: the dataset.
        part: "train", "val" or "test".
        field: the key of the images in a batch.
        numbers: which of them; all when None.
        source: where they come from, in place of the part's own source.
    """

    def __init__(
        self,
        data: ImageDataModule,
        part: Part,
        field: str = "image",
        numbers: Sequence[int] | None = None,
        source: ImageSource | FieldSource | None = None,
    ) -> None:
        if source is None:
            source = {"train": data.train_source, "val": data.val_source, "test": data.test_source}[part]()
        name = f"{type(data).__name__}, {part}" + ("" if field == "image" else f", {field}")
        super().__init__(name, range(len(source)) if numbers is None else numbers, data.spec.class_names)
        self.data, self.part, self.field = data, part, field
        self._samples = data.samples(source)

    def read(self, numbers: Sequence[int]) -> Labelled:
        """Return these images."""
        batch = self.batch(numbers)
        return to_uint8(batch[self.field]), batch["index"], batch.get("label")

    def batch(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch as a model gets it."""
        return self._samples.read(list(numbers))

    def captions(self) -> list[str]:
        """Return the captions of the images in order; empty if the data has none."""
        if not self.data.spec.captions:
            return []
        starts = range(0, len(self), self.block)
        return [text for start in starts for text in self.batch(self.numbers[start : start + self.block])["caption"]]

    def subset(self, numbers: Sequence[int]) -> "DataImages":
        """Return some of the images."""
        return DataImages(self.data, self.part, self.field, numbers)


class Samples(ImageSet):
    """Samples of a generator.

    Args:
        model: with the capability `sample`, with or without classes.
        seeds: one per image.
        labels: the class of each image, for class-conditional models; None for seed mod K.
        prompts: the text of each image, for models that take prompts; None for what the model makes by itself.
        options: of the model's own `sample`, where they differ from its defaults.
    """

    def __init__(
        self,
        model: ImageModel,
        seeds: Sequence[int],
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        assert isinstance(model, Generator)
        by_class = num_sampled_classes(model) > 0
        super().__init__(f"{type(model).__name__} samples", seeds, model.spec.class_names if by_class else ())
        self.model, self.options = model, dict(options or {})
        if by_class and labels is None:
            labels = [seed % model.spec.num_classes for seed in seeds]
        self._labels = dict(zip(seeds, labels, strict=True)) if by_class and labels is not None else None
        self.prompts = None if prompts is None else dict(zip(seeds, prompts, strict=True))

    def read(self, numbers: Sequence[int]) -> Labelled:
        """Return the images of these seeds."""
        assert isinstance(self.model, Generator)
        labels = None if self._labels is None else [self._labels[seed] for seed in numbers]
        prompts = None if self.prompts is None else [self.prompts[seed] for seed in numbers]
        images = to_uint8(sampled(self.model, numbers, labels, prompts=prompts, **self.options)).cpu()
        return images, torch.tensor(numbers), None if labels is None else torch.tensor(labels)


class Edits(ImageSet):
    """Images edited by a model.

    Args:
        model: with the capability `edit`.
        given: its input images.
        options: of the model's own `edit`, where they differ from its defaults.
    """

    def __init__(self, model: ImageModel, given: DataImages, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{type(model).__name__} of {given.name}", given.numbers, given.class_names)
        self.model, self.given, self.options = model, given, dict(options or {})

    def read(self, numbers: Sequence[int]) -> Labelled:
        """Return these images, edited."""
        assert isinstance(self.model, Editor)
        batch = self.given.batch(numbers)
        with self.model.inference():
            images = edited(self.model, batch, self.given.field, **self.options)
        return to_uint8(images).cpu(), batch["index"], batch.get("label")


class FolderImages(ImageSet):
    """The image files of a folder and its sub-folders, of any size, as `find_images` finds them.

    Args:
        root: the folder.
        channels: 1, 3 or 4.
        numbers: which of them, by the order of their names; all when None.

    Raises:
        UserError: no such folder, or no images in it.
    """

    block = 1  # sizes may differ

    def __init__(self, root: Path, channels: int = 3, numbers: Sequence[int] | None = None) -> None:
        if not root.is_dir():
            raise UserError(f"There is no folder {shown(root)}.", "Give a folder of images.")
        found = find_images(root)
        self.files = found.names
        warn_of_others(root, found.others)
        if not self.files:
            raise UserError(f"{shown(root)} has no images.", f"Images end in {', '.join(SUFFIXES)}.")
        super().__init__(f"folder {shown(root.name)}", range(len(self.files)) if numbers is None else numbers)
        self.root, self.channels = root, channels

    def read(self, numbers: Sequence[int]) -> Labelled:
        """Return these images; more than one only where they have one size."""
        return torch.stack([self._decoded(number) for number in numbers]), torch.tensor(numbers), None

    def subset(self, numbers: Sequence[int]) -> "FolderImages":
        """Return some of the images."""
        return FolderImages(self.root, self.channels, numbers)

    def _decoded(self, number: int) -> Tensor:
        path = self.root / self.files[number]
        try:
            return decode(path, self.channels)
        except CorruptImageError as error:
            what = f"{shown(path)} cannot be read: {error.reason}."
            raise UserError(what, "Repair or remove it: a score must cover all images.") from error


def chosen(total: int, num: int) -> list[int]:
    """Return the indices of a fixed subset of the given size, in ascending order."""
    if num >= total:
        return list(range(total))
    return sorted(keyed.permutation(total, 0)[:num].tolist())


def same_names(real: FolderImages, fake: FolderImages) -> tuple[FolderImages, FolderImages]:
    """Return the images whose names are in both folders, in the same order.

    Raises:
        UserError: there are none.
    """
    of_real, of_fake = (
        {normalize("NFC", PurePosixPath(name).stem): number for number, name in enumerate(images.files)}
        for images in (real, fake)
    )
    names = sorted(of_real.keys() & of_fake.keys())
    if not names:
        raise UserError(
            f"No file in {fake.root} has the name of one in {real.root}.", "Name an image and its target alike."
        )
    return real.subset([of_real[name] for name in names]), fake.subset([of_fake[name] for name in names])
