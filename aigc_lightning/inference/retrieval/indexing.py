"""Making and updating an index: only new and changed images are embedded."""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.folders.find_images import find_images, warn_of_others
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank import BLOCK, collect
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.inference.retrieval.index import Entry, ImageIndex, ordered, small_picture

_AT_ONCE = 64  # images that are embedded together
_SAVE_EVERY = 60.0  # seconds between saves, so that a process that is killed loses little
_SMALLEST, _LARGEST = 96, 256  # pixels of the longer side of small pictures


class Item(NamedTuple):
    """An image of a source."""

    name: str
    version: str  # differs when the image has changed
    read: Callable[[], Tensor]  # returns uint8 (C, H, W); may raise CorruptImageError


class Source(ABC):
    """Named images to index.

    Args:
        words: the source in words, by which a later call recognises it.
    """

    def __init__(self, words: str) -> None:
        self.words = words

    @abstractmethod
    def __len__(self) -> int:
        """Return how many images there are."""

    @abstractmethod
    def __iter__(self) -> Iterator[Item]:
        """Yield the images, always in the same order."""


class FolderSource(Source):
    """The image files of a folder and its sub-folders; a file has changed if its size or time has.

    Args:
        root: the folder.
        channels: of decoded images, 3 or 4.

    Raises:
        UserError: it has no images.
    """

    def __init__(self, root: Path, channels: int = 3) -> None:
        super().__init__(f"folder {root.resolve()}")
        found = find_images(root)
        warn_of_others(root, found.others)
        if not found.names:
            raise UserError(f"{shown(root)} has no images.", "Give a folder of images.")
        self._root, self._names, self._channels = root, found.names, channels

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._names)

    def __iter__(self) -> Iterator[Item]:
        """Yield the files."""
        for name in self._names:
            yield Item(name, _version(self._root / name), self._reader(self._root / name))

    def _reader(self, path: Path) -> Callable[[], Tensor]:
        return lambda: decode(path, self._channels)


class DataSource(Source):
    """A part of a dataset; images are named by part and number, and have changed if their pixels have.

    Args:
        words: the data in words.
        images: the images.
    """

    def __init__(self, words: str, images: DataImages) -> None:
        super().__init__(f"{words}, {images.part}")
        self._images = images

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __iter__(self) -> Iterator[Item]:
        """Yield the images."""
        for pixels, numbers, _ in self._images.batches():
            for image, number in zip(pixels, numbers.tolist(), strict=True):
                version = hashlib.sha256(str(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes())
                yield Item(f"{self._images.part}/{number}", version.hexdigest()[:32], image.clone)


class Changes(NamedTuple):
    """What an update did."""

    result: ImageIndex
    embedded: int  # new and changed images
    removed: int  # images that are no longer in the source
    unreadable: list[str]  # names of images that are left out


def update(
    path: Path,
    extractor: Extractor,
    address: str,
    source: Source,
    watch: Callable[[int, int], object] = lambda done, total: None,
) -> Changes:
    """Make an index of a source, or bring the one that is there up to date.

    The file is saved every minute and when the process is interrupted; the same call then continues.

    Args:
        path: the index.
        extractor: what embeds the images.
        address: of the extractor, for searches.
        source: the images.
        watch: called with the numbers of finished images and of all.

    Raises:
        UserError: the path holds something else, or an index of another source or by another extractor.
    """
    before = _claimed(path, extractor, source)
    entries, kept = dict(before), set[str]()
    index = ImageIndex(extractor.fingerprint, address, source.words, entries, complete=False)
    waiting: list[tuple[Item, Tensor]] = []
    names: list[str] = []
    unreadable: list[str] = []
    saved = time.monotonic()
    try:
        for item in source:
            names.append(item.name)
            if item.name in before and before[item.name].version == item.version:
                kept.add(item.name)
            else:
                entries.pop(item.name, None)
                try:
                    waiting.append((item, item.read()))
                except CorruptImageError:
                    unreadable.append(item.name)
            if len(waiting) == _AT_ONCE:
                entries.update(embedded(extractor, waiting))
                waiting = []
            if time.monotonic() - saved > _SAVE_EVERY:
                index.save(path)
                saved = time.monotonic()
            watch(len(names), len(source))
        entries.update(embedded(extractor, waiting))
    except BaseException:
        index.save(path)
        raise
    whole = replace(index, entries=ordered(entries, names), complete=True)
    whole.save(path)
    return Changes(whole, len(whole.entries) - len(kept), len(before.keys() - set(names)), unreadable)


def embed(extractor: Extractor, images: Sequence[Tensor]) -> Tensor:
    """Return the embeddings of uint8 images (C, H, W) of any size, float32 (N, D), on the CPU."""
    batches = [(image[None], torch.tensor([number]), None) for number, image in enumerate(images)]
    block = max(1, min(BLOCK, len(images)))  # for searches rounding does not matter, but time does
    features = collect(extractor, batches, with_logits=False, block=block).features
    assert features is not None
    return features


def picture_side(extractor: Extractor) -> int:
    """Return the length of the longer side of small pictures: large enough for the extractor, within limits."""
    return min(max(_SMALLEST, *extractor.shape[1:]), _LARGEST)


def embedded(extractor: Extractor, items: Sequence[tuple[Item, Tensor]]) -> dict[str, Entry]:
    """Return the entries of images, by name; an image is uint8 (C, H, W)."""
    if not items:
        return {}
    vectors, side = embed(extractor, [image for _, image in items]), picture_side(extractor)
    return {
        item.name: Entry(item.version, vector, small_picture(image, side))
        for (item, image), vector in zip(items, vectors, strict=True)
    }


def _claimed(path: Path, extractor: Extractor, source: Source) -> dict[str, Entry]:
    """Return the entries of the index that is to be updated; none if there is no file."""
    if not path.exists():
        return {}
    old = ImageIndex.load(path)
    if old.source != source.words:
        raise UserError(f"{path} is an index of {shown(old.source)}.", "Give another --out.")
    if old.extractor != extractor.fingerprint:
        raise UserError(f"{path} was made with another embedder: {shown(old.extractor)}.", "Give another --out.")
    return old.entries


def _version(path: Path) -> str:
    """Return the size and the time of a file's last change; of one that is missing, a text that no file has."""
    try:
        status = path.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"
