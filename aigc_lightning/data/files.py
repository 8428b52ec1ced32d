"""Image files as a source: decoded and checked once, kept in memory where they fit, read again where they do not."""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from aigc_lightning.data.base import ArraySource
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.listing import Listing
from aigc_lightning.data.lost import LostImage, named, report, too_many
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

#: Bytes of resized images up to which all of them are kept in memory.
MEMORY_LIMIT = 2**30

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0  # a check that takes longer shows its progress
_AT_ONCE = 256  # files handed to the threads at once: few enough that Ctrl-C is answered soon


class PackedNames(Sequence[str]):
    """Names in two arrays: a list of a million takes thrice the memory, in each loader process.

    Args:
        names: to keep.
    """

    def __init__(self, names: Sequence[str]) -> None:
        packed = [name.encode("utf-8", "surrogateescape") for name in names]
        self._text = np.frombuffer(b"".join(packed), np.uint8)
        self._ends = np.cumsum([len(name) for name in packed], dtype=np.int64)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return a name, or some."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        first = self._ends[number - 1] if number else 0
        return self._text[first : self._ends[number]].tobytes().decode("utf-8", "surrogateescape")


class FileSource:
    """Images that are read from their files when they are asked for.

    A file that cannot be read any more is reported once and the next good one stands in for it, with its own label;
    the batch keeps the index that was asked for. Which one stands in depends on the files alone.

    Args:
        root: the folder that the names are relative to.
        names: of the files.
        labels: int64 (N,), or None.
        read: gives the uint8 (C, H, W) image of a path.
        max_bad: share of the files that may turn out to be bad; see `LostImages`, which counts over all processes.
    """

    def __init__(
        self, root: Path, names: Sequence[str], labels: Tensor | None, read: Callable[[Path], Tensor], max_bad: float
    ) -> None:
        self._root, self._names, self._labels = root, PackedNames(names), labels
        self._read, self._max_bad = read, max_bad
        self._stand_ins: dict[int, int] = {}
        self.bad: dict[int, CorruptImageError] = {}

    def __len__(self) -> int:
        """Return N."""
        return len(self._names)

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W).

        Raises:
            UserError: no file can be read.
        """
        return torch.stack([self._image(index) for index in indices])

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of the images that `images` gave for these indices, int64 (B,), or None."""
        if self._labels is None:
            return None
        return self._labels[torch.tensor([self._stand_in(index) for index in indices])]

    def _image(self, index: int) -> Tensor:
        while True:
            number = self._stand_in(index)
            try:
                return self._read(self._root / self._names[number])
            except CorruptImageError as error:
                self.bad[number] = error
                if len(self.bad) == len(self):  # there is nothing to stand in
                    raise too_many(self._root, [*self.bad.values()], len(self), self._max_bad) from error
                self._stand_ins[number] = (number + 1) % len(self)
                report(LostImage(error, self._root, len(self), self._max_bad))

    def _stand_in(self, index: int) -> int:
        while index in self._stand_ins:
            index = self._stand_ins[index]
        return index


def _memory_limit(num_workers: int) -> int:
    """Return the bytes that may be kept: loader processes get them through /dev/shm, which containers make small."""
    shared = Path("/dev/shm")
    if num_workers and shared.is_dir():
        return min(MEMORY_LIMIT, shutil.disk_usage(shared).free // 2)
    return MEMORY_LIMIT


def load_files(
    listing: Listing, read: Callable[[Path], Tensor], shape: tuple[int, int, int], max_bad: float, num_workers: int
) -> dict[str, ArraySource | FileSource]:
    """Decode all files of a listing and return a source for each part, without the bad files.

    Images that together take up to `MEMORY_LIMIT` stay in memory; otherwise they are read again when they are asked
    for. With `max_bad` 1 such large listings are not checked first.

    Args:
        listing: the files.
        read: gives the uint8 image of a path.
        shape: (C, H, W) of what `read` gives.
        max_bad: share of the files that may be bad.
        num_workers: loader processes, which the images in memory are sent to.

    Raises:
        UserError: too many are bad, or all files of a part.
    """
    names = [name for members in listing.parts.values() for name in members]
    kept = None
    if len(names) * math.prod(shape) <= _memory_limit(num_workers):
        kept = torch.empty((len(names), *shape), dtype=torch.uint8)

    def error_of(number: int) -> CorruptImageError | None:
        try:
            image = read(listing.root / names[number])
        except CorruptImageError as error:
            return error
        if kept is not None:
            kept[number] = image
        return None

    checks_first = kept is not None or max_bad < 1
    errors = watched(in_threads(error_of, len(names)), len(names)) if checks_first else ()
    bad = {name: error for name, error in zip(names, errors, strict=False) if error is not None}
    good = without_bad(listing, bad, max_bad)
    if kept is None:
        return {part: FileSource(listing.root, names, labels, read, max_bad) for part, (names, labels) in good.items()}
    sources: dict[str, ArraySource | FileSource] = {}
    first = 0
    for part, members in listing.parts.items():
        images = kept[first : first + len(members)]
        _, labels = good[part]
        if bad:  # a slice shares the memory, a selection copies it
            images = images[torch.tensor([name not in bad for name in members])]
        sources[part] = ArraySource(images, labels)
        first += len(members)
    return sources


def without_bad(
    listing: Listing, bad: Mapping[str, CorruptImageError], max_bad: float
) -> dict[str, tuple[list[str], Tensor | None]]:
    """Return the names of each part that are not bad, and their labels, int64 (N,), or None.

    Args:
        listing: the files.
        bad: what is wrong with those that cannot be read, by name.
        max_bad: share of the files that may be bad.

    Raises:
        UserError: too many are bad, or all files of a part.
    """
    total = sum(map(len, listing.parts.values()))
    errors = [bad[name] for members in listing.parts.values() for name in members if name in bad] if bad else []
    if len(errors) > max_bad * total:
        raise too_many(listing.root, errors, total, max_bad)
    if errors:
        _warn("Left out %d of %d images: %s.", len(errors), total, named(listing.root, errors))
    found: dict[str, tuple[list[str], Tensor | None]] = {}
    for part, members in listing.parts.items():
        good = [name for name in members if name not in bad]
        if not good:
            raise UserError(f"No image that can be read is left for {part} in {listing.root}.", "Mend or add files.")
        numbers = listing.labels(good)
        found[part] = good, None if numbers is None else torch.tensor(numbers)
    return found


def in_threads(function: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield function(0), function(1), ... computed by a thread per processor; Pillow decodes outside the lock."""
    with ThreadPoolExecutor(available_processors()) as pool:
        for first in range(0, count, _AT_ONCE):
            yield from pool.map(function, range(first, min(first + _AT_ONCE, count)))


def available_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def watched(steps: Iterable[Result], total: int) -> Iterator[Result]:
    """Pass the steps on, with a progress bar once they take longer than is polite."""
    begin, bar = monotonic(), None
    try:
        for done, step in enumerate(steps, 1):
            if bar is None and monotonic() - begin > _PATIENCE_S:
                bar = _started_bar(total)
            if bar is not None:
                bar.update(bar.task_ids[0], completed=done)
            yield step
    finally:
        if bar is not None:
            bar.stop()


@rank_zero_only
def _started_bar(total: int) -> "Progress":
    from rich.console import Console  # short checks need not wait for it
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True))
    bar.add_task("Checking images", total=total)
    bar.start()
    return bar


@rank_zero_only
def _warn(message: str, *values: object) -> None:
    _log.warning(message, *values)
