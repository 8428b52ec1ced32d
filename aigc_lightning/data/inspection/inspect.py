"""Inspection of data: its files on the disk, and its samples as a model sees them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aigc_lightning.core.batch import IMAGE_KEYS
from aigc_lightning.core.spec import CHANNEL_NAMES
from aigc_lightning.data.base import FieldSource, ImageDataModule, ImageSource, Visits
from aigc_lightning.data.console import watched
from aigc_lightning.data.decode import CorruptImageError, as_tensor, load, size_and_kind
from aigc_lightning.data.degraded_images import DegradedImages
from aigc_lightning.data.folders.base import FolderData
from aigc_lightning.data.folders.files import in_threads
from aigc_lightning.data.folders.listing import Listing
from aigc_lightning.data.inspection.similarity import Fingerprint, fingerprint
from aigc_lightning.data.sources import read_fields
from aigc_lightning.data.unreadable import collected
from aigc_lightning.errors import UserError

PARTS = ("train", "val", "test")
_AT_ONCE = 64


@dataclass(frozen=True)
class Inspected:
    """One image.

    Args:
        part: "train", "val" or "test".
        kind: a batch key, or the index of a file listing; only images of the same kind are compared.
        name: of the file, relative to its folder, or the source's name for the sample, or its number.
        size: (H, W) in pixels.
        mode: pixel mode of the file, such as "RGB" or "P" (a palette); without a file, that of the model's input.
        print: fingerprint for comparisons.
        remarks: oddities of the file.
    """

    part: str
    kind: str
    name: str
    size: tuple[int, int]
    mode: str
    print: Fingerprint
    remarks: tuple[str, ...] = ()


def clean(data: ImageDataModule) -> ImageDataModule:
    """Return the clean data behind degraded images; return any other data unchanged."""
    return clean(data.data) if isinstance(data, DegradedImages) else data


def sources(data: ImageDataModule) -> dict[str, ImageSource | FieldSource]:
    """Return the sources of all parts, without a test source that is the held-out one again."""
    found = {"train": data.train_source(), "val": data.val_source(), "test": data.test_source()}
    same = type(data).test_source is ImageDataModule.test_source or found["test"] is found["val"]
    return {part: source for part, source in found.items() if part != "test" or not same}


def chosen(total: int, num: int) -> list[int]:
    """Return up to `num` evenly spaced numbers below `total`."""
    return np.unique(np.linspace(0, total - 1, min(num, total)).round().astype(np.int64)).tolist() if total else []


def samples(source: ImageSource | FieldSource, numbers: list[int]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Yield batches of samples before augmentation: their numbers and their fields."""
    for first in range(0, len(numbers), _AT_ONCE):
        part = numbers[first : first + _AT_ONCE]
        yield part, read_fields(source, Visits(0, np.zeros(len(part), np.int64), np.array(part, np.int64)))


def headers(data: ImageDataModule, num: int) -> list[tuple[int, int, str]]:
    """Return height, width and mode of the files of each part from their first bytes, without unreadable ones."""
    found = []
    for listing in data.listings() if isinstance(data, FolderData) else []:
        for files in listing.parts.values():
            for number in chosen(len(files), num):
                with suppress(CorruptImageError):
                    found.append(size_and_kind(listing.root / files[number]))
    return found


def passed_over_by(data: ImageDataModule) -> dict[str, int]:
    """Return the number of skipped files by extension, the most frequent first."""
    data = clean(data)
    listings = data.listings() if isinstance(data, FolderData) else []
    return dict(sum((Counter(listing.others) for listing in listings), Counter[str]()).most_common())


def inspect(data: ImageDataModule, num: int) -> tuple[list[Inspected], list[CorruptImageError]]:
    """Check every image: its file if it has one, otherwise the model's input.

    Args:
        data: the data to check.
        num: maximum number of images per part and kind, evenly spaced.

    Returns:
        The images seen, and the errors of unreadable ones.

    Raises:
        UserError: the data cannot be used.
    """
    data = clean(data)
    if not isinstance(data, FolderData):
        return _inspect_samples(data, num)
    data.max_bad = 1.0  # all of them are to be named
    listings = data.listings()
    found, bad = _inspect_files(listings, num) if listings else _inspect_samples(data, num)
    return found, [*bad, *data.left_out()]


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

        bad += [CorruptImageError(listing.root / name, reason) for name, reason in listing.passed_over]
        for result in watched(in_threads(look, len(names)), "Checking images", len(names)):
            (bad if isinstance(result, CorruptImageError) else found).append(result)
    return found, bad


def _inspect_file(part: str, kind: str, root: Path, name: str) -> Inspected:
    picture = load(root / name)
    size = picture.image.height, picture.image.width
    return Inspected(part, kind, name, size, picture.kind, fingerprint(as_tensor(picture)), tuple(picture.remarks))


def _inspect_samples(data: ImageDataModule, num: int) -> tuple[list[Inspected], list[CorruptImageError]]:
    """Check samples one by one: in a batch, an unreadable one could not be identified."""
    keys = [key for key in IMAGE_KEYS[data.spec.task] if key != "degraded"]
    found: list[Inspected] = []
    bad: list[CorruptImageError] = []
    for part, source in sources(data).items():
        numbers = chosen(len(source), num)
        for number in watched(numbers, f"Checking {part}", len(numbers)):
            fields, errors = _sample(source, number, f"{part}/{number}")
            bad += errors
            if not errors:
                name = source.name(number) if hasattr(source, "name") else str(number)
                found += [_inspect_image(part, key, name, fields[key][0]) for key in keys]
    return found, bad


def _sample(
    source: ImageSource | FieldSource, number: int, name: str
) -> tuple[dict[str, Any], list[CorruptImageError]]:
    """Return the fields of a sample and its errors, even if another image replaces it."""
    try:
        with collected() as lost:
            ((_, fields),) = samples(source, [number])
    except CorruptImageError as error:
        return {}, [error]
    except UserError as error:
        return {}, [CorruptImageError(name, error.what.rstrip(".:"))]
    except Exception as error:  # a plugin's data may raise anything
        return {}, [CorruptImageError(name, f"{type(error).__name__}: {error}")]
    problem = source.problem(number) if hasattr(source, "problem") else None
    return fields, [problem] if problem else [item.error for item in lost]


def _inspect_image(part: str, key: str, name: str, image: Tensor) -> Inspected:
    channels, height, width = image.shape
    return Inspected(part, key, name, (height, width), CHANNEL_NAMES[channels], fingerprint(image))
