"""Image files as a source: kept in memory if they fit, otherwise read again at each visit.

Which images are trained on depends only on the files, never on their speed or on who reads them:

- A **small** listing (up to `CHECKED_FILES` files that take up to `CHECKED_BYTES`) is decoded once before it is used,
  with a progress bar. Unreadable files are dropped, so that every index is a distinct image.
- A **larger** one is used as listed, and nothing is decoded in advance: every file has an index and is read on request,
by the loader processes if there are any. If a file is unreadable, the next readable one replaces it. Which one that is
depends only on the files, so it is the same in every process, after a resume, and for any number of loader processes;
the sample's random numbers are keyed by the requested index. The unreadable file is reported with each batch that
requests it (see `data/unreadable.py`), and counts against `max_bad`.

In both cases decoded images are kept if all of them fit into `MEMORY_LIMIT`. Loader processes share this memory, which
grows as it is filled: what one of them has read, the others need not read.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from aigc_lightning.data.base import ArraySource
from aigc_lightning.data.console import warn, watched
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.folders.listing import Listing
from aigc_lightning.data.unreadable import Budget, LostImage, is_collected, named, report

#: Maximum number of bytes of resized images that are kept in memory.
MEMORY_LIMIT = 2**30
#: Maximum number and bytes of files that are all decoded before use: a few seconds' work.
CHECKED_FILES, CHECKED_BYTES = 10_000, 2**28

#: Returns the uint8 (C, H, W) image of a file, or of a file and its partner.
Read = Callable[..., Tensor]
Result = TypeVar("Result")

_AT_ONCE = 256  # number of files submitted to the threads at once: few enough for a quick response to Ctrl-C


class FileSource:
    """Images that are read from their files on request.

    An unreadable file is reported and replaced by the next readable one, with that one's label; the batch keeps the
    requested index. The replacement depends only on the files.

    Args:
        listing: the files.
        part: which part's files to use.
        read: returns the image of a path, or of two if the listing has partners.
        budget: how many files may be unreadable, counted over all processes.
        kept: uint8 (N, C, H, W) memory that keeps images once they are read; None to read them each time.
    """

    def __init__(self, listing: Listing, part: str, read: Read, budget: Budget, kept: Tensor | None = None) -> None:
        self._root, self._part, self._read, self._budget = listing.root, part, read, budget
        self._names = [files[part] for files in (listing.parts, listing.partners) if files is not None]
        # Classes according to the folders, int64 (N,), or None; `labels` returns those of replacements.
        self.listed_labels = None if listing.labels is None else torch.from_numpy(listing.labels[part])
        self._kept = kept
        self._is_kept = None if kept is None else torch.zeros(len(self), dtype=torch.bool)
        self._stand_ins: dict[int, int] = {}
        self.bad: dict[int, CorruptImageError] = {}

    def __len__(self) -> int:
        """Return N."""
        return len(self._names[0])

    def images(self, indices: Sequence[int]) -> Tensor:
        """Return these images, uint8 (B, C, H, W).

        Raises:
            UserError: no file is readable, or, outside a loader, more are unreadable than allowed.
        """
        for index in indices:
            if index in self.bad:  # reported with each batch, since batches may be dropped before they are counted
                report(LostImage(self.bad[index], self._budget), again=True)
        read: dict[int, Tensor] = {}
        while missing := self._missing(map(self._stand_in, indices), read):
            for number, result in zip(missing, _in_parallel(self._decoded, missing), strict=True):
                if isinstance(result, CorruptImageError):
                    self._lose(number, result)
                elif self._kept is None:
                    read[number] = result
        numbers = [self._stand_in(index) for index in indices]
        if self._kept is None:
            return torch.stack([read[number] for number in numbers])
        # Not by indexing, which copies byte by byte and takes twenty times as long.
        return self._kept.index_select(0, torch.tensor(numbers))

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return the labels of the images that `images` returned for these indices, int64 (B,), or None."""
        if self.listed_labels is None:
            return None
        return self.listed_labels[torch.tensor([self._stand_in(index) for index in indices])]

    def problem(self, index: int) -> CorruptImageError | None:
        """Return what is wrong with a file, if `images` has tried to read it."""
        return self.bad.get(index)

    def name(self, index: int) -> str:
        """Return the name of a file relative to the folder."""
        return self._names[0][index]

    def _missing(self, numbers: Iterable[int], read: Mapping[int, Tensor]) -> list[int]:
        """Return which of these images have not been read yet."""
        unique = dict.fromkeys(numbers)
        if self._is_kept is None:
            return [number for number in unique if number not in read]
        wanted = torch.tensor([*unique])
        missing: list[int] = wanted[~self._is_kept[wanted]].tolist()
        return missing

    def _decoded(self, number: int) -> Tensor | CorruptImageError:
        try:
            image = self._read(*(self._root / names[number] for names in self._names))
        except CorruptImageError as error:
            return error
        if self._kept is not None and self._is_kept is not None:
            # Through numpy: torch refuses to modify tensors created in inference mode.
            self._kept.numpy()[number] = image.numpy()
            self._is_kept.numpy()[number] = True
        return image

    def _lose(self, number: int, error: CorruptImageError) -> None:
        self.bad[number] = error
        every = [*self.bad.values()]
        if len(every) == len(self):  # there is no replacement
            raise self._budget.none_left(every, self._part) from error
        report(LostImage(error, self._budget))
        if not is_collected():
            self._budget.check(every)
        self._stand_ins[number] = (number + 1) % len(self)

    def _stand_in(self, index: int) -> int:
        last = index
        while last in self._stand_ins:
            last = self._stand_ins[last]
        if last != index:
            self._stand_ins[index] = last  # cached, since there may be thousands of files in between
        return last


def load_files(
    listing: Listing, read: Read, shape: tuple[int, int, int], max_bad: float, num_workers: int
) -> dict[str, ArraySource | FileSource]:
    """Return a source for each part of a listing; a small listing is decoded first and unreadable files dropped.

    Images stay in memory if all of them fit into `MEMORY_LIMIT`; otherwise they are read again on request.

    Args:
        listing: the files.
        read: returns the uint8 image of a path, or of two if the listing has partners.
        shape: (C, H, W) of the images that `read` returns.
        max_bad: fraction of the files that may be unreadable.
        num_workers: number of loader processes, which share the images in memory.

    Raises:
        UserError: too many files are unreadable, or all of a part; for a larger listing this is detected later.
    """
    keep = len(listing) * math.prod(shape) <= _memory_limit(num_workers)
    kept = {
        part: _memory((len(names), *shape), shared=num_workers > 0) if keep else None
        for part, names in listing.parts.items()
    }
    budget = Budget(listing.root, len(listing), max_bad)
    checked = is_checked_first(len(listing), _sizes(listing))
    if checked:
        listing, kept = _checked(listing, read, kept, max_bad)
    sources: dict[str, ArraySource | FileSource] = {}
    for part, images in kept.items():
        if images is not None and checked:
            labels = None if listing.labels is None else torch.from_numpy(listing.labels[part])
            sources[part] = ArraySource(images, labels)
        else:
            sources[part] = FileSource(listing, part, read, budget, images)
    return sources


def is_checked_first(count: int, sizes: Iterable[int]) -> bool:
    """Return whether this many files are decoded before use and unreadable ones dropped.

    Args:
        count: number of files.
        sizes: their bytes; consumed only if the count alone does not decide.
    """
    return count <= CHECKED_FILES and sum(sizes) <= CHECKED_BYTES


def without_bad(listing: Listing, bad: Mapping[str, CorruptImageError], max_bad: float) -> Listing:
    """Return a listing without the unreadable files.

    Args:
        listing: the files.
        bad: errors of the unreadable files, by name.
        max_bad: fraction of the files that may be unreadable.

    Raises:
        UserError: too many files are unreadable, or all of a part.
    """
    errors = [bad[name] for names in listing.parts.values() for name in names if name in bad] if bad else []
    if not errors:
        return listing
    budget = Budget(listing.root, len(listing), max_bad)
    budget.check(errors)
    warn("Left out %d of %d images: %s.", len(errors), len(listing), named(listing.root, errors))
    good = {part: np.array([name not in bad for name in names]) for part, names in listing.parts.items()}
    for part, chosen in good.items():
        if not chosen.any():
            raise budget.none_left(errors, part)
    labels, partners = listing.labels, listing.partners
    return replace(
        listing,
        parts={part: listing.parts[part].take(chosen) for part, chosen in good.items()},
        labels=labels and {part: labels[part][chosen] for part, chosen in good.items()},
        partners=partners and {part: partners[part].take(chosen) for part, chosen in good.items()},
    )


def _checked(
    listing: Listing, read: Read, kept: Mapping[str, Tensor | None], max_bad: float
) -> tuple[Listing, dict[str, Tensor | None]]:
    """Decode all files; return the readable ones, and their images if there is memory for them."""
    files = [(part, number) for part, names in listing.parts.items() for number in range(len(names))]

    def error_of(place: int) -> CorruptImageError | None:
        part, number = files[place]
        names = [of_part[part] for of_part in (listing.parts, listing.partners) if of_part is not None]
        try:
            image = read(*(listing.root / of_part[number] for of_part in names))
        except CorruptImageError as error:
            return error
        if (images := kept[part]) is not None:
            images.numpy()[number] = image.numpy()
        return None

    errors = watched(in_threads(error_of, len(files)), "Checking images", len(files))
    found = ((listing.parts[part][number], error) for (part, number), error in zip(files, errors, strict=True) if error)
    bad = dict(found)
    good = without_bad(listing, bad, max_bad)
    if not bad:  # selecting would copy the memory
        return good, dict(kept)
    chosen = {part: torch.tensor([name not in bad for name in names]) for part, names in listing.parts.items()}
    return good, {part: None if images is None else images[chosen[part]] for part, images in kept.items()}


def _memory(shape: tuple[int, ...], *, shared: bool) -> Tensor:
    with torch.inference_mode(False):
        if not shared:
            return torch.empty(shape, dtype=torch.uint8)
        # As torch creates a loader's batches; sharing an ordinary tensor would copy, and so allocate, all of its
        # memory.
        storage = torch.UntypedStorage._new_shared(math.prod(shape))
        return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def _memory_limit(num_workers: int) -> int:
    """Return how many bytes may be kept: loader processes share them in /dev/shm, which is small in containers."""
    shared = Path("/dev/shm")
    if num_workers and shared.is_dir():
        return min(MEMORY_LIMIT, shutil.disk_usage(shared).free // 2)
    return MEMORY_LIMIT


def _sizes(listing: Listing) -> Iterator[int]:
    for names in (*listing.parts.values(), *(listing.partners or {}).values()):
        for name in names:
            try:
                yield os.stat(listing.root / name).st_size
            except OSError:  # reported when it is read
                yield 0


def in_threads(function: Callable[[int], Result], count: int) -> Iterator[Result]:
    """Yield function(0), function(1), ... computed by one thread per CPU; Pillow releases the GIL while decoding."""
    with ThreadPoolExecutor(available_processors()) as pool:
        for first in range(0, count, _AT_ONCE):
            yield from pool.map(function, range(first, min(first + _AT_ONCE, count)))


def _in_parallel(function: Callable[[int], Result], numbers: Sequence[int]) -> list[Result]:
    """Return a function's results for some numbers, using threads except in loader processes."""
    if len(numbers) == 1 or get_worker_info() is not None:
        return [function(number) for number in numbers]
    # Not reused: a process with waiting threads must not be forked.
    with ThreadPoolExecutor(min(len(numbers), available_processors())) as pool:
        return [*pool.map(function, numbers)]


def available_processors() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
