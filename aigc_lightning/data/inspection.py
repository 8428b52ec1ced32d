"""What is in data: its files as they lie on the disk, and its samples as a model gets them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from aigc_lightning.core.batch import IMAGE_KEYS
from aigc_lightning.core.files import open_regular
from aigc_lightning.core.spec import CHANNEL_NAMES
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource, Visits, read_fields
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.degraded_images import DegradedImages
from aigc_lightning.data.files import in_threads, watched
from aigc_lightning.data.folder_data import FolderData
from aigc_lightning.data.listing import Listing
from aigc_lightning.data.similarity import Fingerprint, fingerprint

PARTS = ("train", "val", "test")
_AT_ONCE = 64


@dataclass(frozen=True)
class Inspected:
    """One image.

    Args:
        part: "train", "val" or "test".
        kind: only images of one kind are compared: a batch key, or the place of a listing of files.
        name: of the file, relative to its folder, or the number of the sample.
        size: (H, W) in pixels.
        mode: of the file's pixels, such as "RGB" or "P" (a palette); without a file what the model gets.
        print: what it is compared by.
    """

    part: str
    kind: str
    name: str
    size: tuple[int, int]
    mode: str
    print: Fingerprint


def clean(data: ImageDataModule) -> ImageDataModule:
    """Return the data that degraded images are made of; any other data as it is."""
    return clean(data.data) if isinstance(data, DegradedImages) else data


def sources(data: ImageDataModule) -> dict[str, ImageSource | FieldSource]:
    """Return the sources of all parts; a test source that is the held-out one again is left out."""
    found = {"train": data.train_source(), "val": data.val_source(), "test": data.test_source()}
    same = type(data).test_source is ImageDataModule.test_source or found["test"] is found["val"]
    return {part: source for part, source in found.items() if part != "test" or not same}


def chosen(total: int, num: int) -> list[int]:
    """Return up to `num` of the numbers below `total`, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(num, total)).round().astype(np.int64)).tolist() if total else []


def samples(source: ImageSource | FieldSource, numbers: list[int]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Yield samples as they are before augmentation, some at once: their numbers and their fields."""
    for first in range(0, len(numbers), _AT_ONCE):
        part = numbers[first : first + _AT_ONCE]
        yield part, read_fields(source, Visits(0, np.zeros(len(part), np.int64), np.array(part, np.int64)))


def headers(data: ImageDataModule, num: int) -> list[tuple[int, int, str]]:
    """Return height, width and mode of the files of each part, read from their first bytes; bad ones are left out."""
    found = []
    for listing in data.listings() if isinstance(data, FolderData) else []:
        for files in listing.parts.values():
            for number in chosen(len(files), num):
                with (
                    suppress(OSError),
                    open_regular(listing.root / files[number]) as stream,
                    Image.open(stream) as file,
                ):
                    found.append((file.height, file.width, file.mode))
    return found


def inspect(data: ImageDataModule, num: int) -> tuple[list[Inspected], list[CorruptImageError]]:
    """Look at every image: at its file where it has one, otherwise at what a model gets.

    Args:
        data: to look at.
        num: images of a part and kind to look at, evenly spread where there are more.

    Returns:
        What was seen, and what cannot be read.

    Raises:
        UserError: the data cannot be used.
    """
    data = clean(data)
    listings = data.listings() if isinstance(data, FolderData) else []
    return _inspect_files(listings, num) if listings else (_inspect_samples(data, num), [])


def _inspect_files(listings: Sequence[Listing], num: int) -> tuple[list[Inspected], list[CorruptImageError]]:
    found: list[Inspected] = []
    bad: list[CorruptImageError] = []
    for kind, listing in enumerate(listings):
        names = [(part, files[number]) for part, files in listing.parts.items() for number in chosen(len(files), num)]

        def look(number: int, root: Path = listing.root, names: Any = names, kind: str = str(kind)) -> Any:
            part, name = names[number]
            try:
                return _inspect_file(part, kind, root, name)
            except CorruptImageError as error:
                return error

        for result in watched(in_threads(look, len(names)), len(names)):
            (bad if isinstance(result, CorruptImageError) else found).append(result)
    return found, bad


def _inspect_file(part: str, kind: str, root: Path, name: str) -> Inspected:
    image = decode(root / name)
    with open_regular(root / name) as stream, Image.open(stream) as file:
        mode = file.mode
    return Inspected(part, kind, name, (image.shape[1], image.shape[2]), mode, fingerprint(image))


def _inspect_samples(data: ImageDataModule, num: int) -> list[Inspected]:
    keys = [key for key in IMAGE_KEYS[data.spec.task] if key != "degraded"]
    found = []
    for part, source in sources(data).items():
        for numbers, fields in samples(source, chosen(len(source), num)):
            found += [
                _inspect_image(part, key, number, image)
                for key in keys
                for number, image in zip(numbers, fields[key], strict=True)
            ]
    return found


def _inspect_image(part: str, key: str, number: int, image: Tensor) -> Inspected:
    channels, height, width = image.shape
    return Inspected(part, key, str(number), (height, width), CHANNEL_NAMES[channels], fingerprint(image))
